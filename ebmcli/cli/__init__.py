"""Arguments in, one workflow called, one result printed."""
