"""What a person can mend: the command line tells such an error in its own words, and any other with its traceback."""


class StudyError(Exception):
    """The message says what is wrong, with which file or name, and what to do."""
