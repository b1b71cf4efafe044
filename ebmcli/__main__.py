"""The entry point of ``ebm`` and of ``python -m ebmcli``; Ctrl-C is quiet from here on."""


def main() -> None:
    """Load the program and run it.

    While modules load, and when all is done, Ctrl-C ends the process at once with status 130: a
    KeyboardInterrupt in the middle of an import could not be explained by anything, and some
    imports lose it. In between the program itself answers to Ctrl-C.
    """
    import os
    import signal

    answers = signal.getsignal(signal.SIGINT)
    heeded = answers is signal.default_int_handler  # not where a shell has it ignored
    if heeded:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from ebmcli.cli.app import program

    run = program()
    try:
        if heeded:
            signal.signal(signal.SIGINT, answers)
        run()
    except KeyboardInterrupt:  # in the moment before the program's own answer
        os._exit(130)
    finally:
        if heeded:
            signal.signal(signal.SIGINT, lambda *_: os._exit(130))


if __name__ == "__main__":
    main()
