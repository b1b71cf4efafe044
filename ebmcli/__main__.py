"""``python -m ebmcli`` is ``ebm``."""

from ebmcli.cli.app import main

if __name__ == "__main__":
    main()
