"""The files that belong to each name of a list of samples."""

from keras_seg.utils import writable_folder


def existing(names, places, errors, source):
    """The names whose files are all there: (names, files of the first place, of the second, ...).

    Args:
        names: list.
        places: functions from a name to the Path of its file.
        errors: (file, message) of every missing file is added.
        source: what lists the names, for the message; None: one of the files.
    """
    kept, folders = [], {}
    why = f"{source} lists it" if source else "its partner is there"
    for name in names:
        files = [place(name) for place in places]
        missing = [path for path in files if not path.is_file()]
        for path in missing:
            hint = _near(path, folders)
            errors.append((path, f"is missing, though {why}{hint}"))
        if not missing:
            kept.append((name, *files))
    return [[row[column] for row in kept] for column in range(1 + len(places))]


def write_list(path, names):
    """Write one name a line; makes the folder."""
    writable_folder(path.parent)
    path.write_text("".join(f"{name}\n" for name in names), "utf-8")


def _near(path, folders):
    """A hint where a file of the same name but for case is there; `folders` keeps their names."""
    if path.parent not in folders:
        found = path.parent.iterdir() if path.parent.is_dir() else ()
        folders[path.parent] = {other.name.casefold(): other.name for other in found}
    near = folders[path.parent].get(path.name.casefold())
    return f"; {near} differs in upper and lower case" if near else ""
