"""Names and texts as SQL has them, whatever they hold but a NUL."""


def sql_name(name: str) -> str:
    """The name of a column."""
    return '"' + name.replace('"', '""') + '"'


def sql_text(text: str) -> str:
    """A text."""
    return "'" + text.replace("'", "''") + "'"
