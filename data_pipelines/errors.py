"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """Bad input, bad configuration or a bad directory: the message names it and the remedy.

    Command lines print the message alone, without a stack trace, and exit with status 2.
    """
