"""What ends a command by the user's doing: a mistake, or Ctrl-C."""


class UserError(Exception):
    """Bad input, bad configuration or a bad directory: the message names it and the remedy.

    Command lines print the message alone, without a stack trace, and exit with status 2.
    """


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with the line that a command has to say about it."""
