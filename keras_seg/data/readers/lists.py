"""Lists of samples in text files, and the files that belong to each name of a list."""

from keras_seg.utils import writable_folder


def read_list(path):
    """The lines of a text file that are not empty, stripped.

    Raises:
        ValueError: naming the file, if it cannot be read or is empty.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Cannot read the list {path}: {error}.") from error
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise ValueError(f"0 samples: {path} lists none.")
    return lines


def existing(names, places, errors, source):
    """The names whose files are all there: (names, files of the first place, of the second, ...).

    Args:
        names: list.
        places: functions from a name to the Path of its file.
        errors: (file, message) of every missing file is added.
        source: what lists the names, for the message.
    """
    kept = []
    for name in names:
        files = [place(name) for place in places]
        missing = [path for path in files if not path.exists()]
        errors += [(path, f"is missing, though {source} lists it{_near(path)}") for path in missing]
        if not missing:
            kept.append((name, *files))
    return [[row[column] for row in kept] for column in range(1 + len(places))]


def write_list(path, names):
    """Write one name a line; makes the folder."""
    writable_folder(path.parent)
    path.write_text("".join(f"{name}\n" for name in names), "utf-8")


def _near(path):
    """A hint where a file of the same name but for upper and lower case is there."""
    if not path.parent.is_dir():
        return ""
    names = (p.name for p in path.parent.iterdir() if p.name.casefold() == path.name.casefold())
    near = next(names, None)
    return f"; {near} differs in upper and lower case" if near else ""
