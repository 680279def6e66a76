"""What readers share: finding splits, pairing images with masks, the table of classes."""

import pathlib

import numpy as np
from PIL import Image

from keras_seg.data import labels, read
from keras_seg.data.labels import LabelTable
from keras_seg.data.readers.lists import existing
from keras_seg.utils import atomic_path, writable_folder

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations")


def existing_folder(root):
    """`root` as a Path; ValueError if it is no folder."""
    root = pathlib.Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder.")
    return root


def contents(root):
    """What a folder holds, for a message: at most ten names."""
    names = sorted(p.name + "/" * p.is_dir() for p in root.iterdir())
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "nothing"


def either(names):
    """ "a, b or c" of several names."""
    return ", ".join(names[:-1]) + " or " + names[-1]


def title(root, split):
    """A folder and its split, for people."""
    return f"{root}, split {split}" if split else str(root)


def choose_split(root, split, found):
    """Which of the splits `found` (names on disk; None stands for a data set without splits)."""
    if None in found:
        if split in (None, *SPLITS["train"]):
            return None
        raise ValueError(
            f"{root} has no splits, so no {split!r}: it is all one part. Cut it with "
            "dataset.split(0.2), or make folders train/ and val/."
        )
    wanted = split or ("train" if len(found) != 1 else found[0])
    for name in (wanted, *SPLITS.get(wanted, ())):
        if name in found:
            return name
    listed = ", ".join(found) or f"none; the folder holds {contents(root)}"
    raise ValueError(f"{root} has no split {wanted!r}. Found: {listed}.")


def split_places(root, image_names, mask_names):
    """{split or None: (image folder, mask folder)} below `root`."""

    def two(images, masks):
        image = next((images / n for n in image_names if (images / n).is_dir()), None)
        mask = next((masks / n for n in mask_names if (masks / n).is_dir()), None)
        return image and mask and (image, mask)

    found = {}
    top = two(root, root)
    for name in (name for names in SPLITS.values() for name in names):
        below = two(root / name, root / name)
        above = top and (top[0] / name, top[1] / name)
        if below:
            found[name] = below
        elif above and all(path.is_dir() for path in above):
            found[name] = above
    return found or ({None: top} if top else {})


def pair(image_folder, mask_folder, mask_suffix, errors):
    """(names, image files, mask files) of all pairs; what does not pair goes to `errors`."""
    images = _by_name(image_folder, "", errors)
    masks = _by_name(mask_folder, mask_suffix, errors)
    return match(images, masks, image_folder, mask_folder, errors)


def pair_by_ending(image_folder, image_ending, mask_folder, mask_ending, errors):
    """As `pair`, for folders that hold other files too: names are what stands before the endings.

    Of "aachen/aachen_000000_000019_leftImg8bit.png" and the ending "_leftImg8bit.png" the name is
    "aachen/aachen_000000_000019".
    """
    images = _by_ending(image_folder, image_ending, errors)
    masks = _by_ending(mask_folder, mask_ending, errors)
    return match(images, masks, image_folder, mask_folder, errors)


def find_listed(names, image_of, mask_of, source, errors):
    """(names, image files, mask files) of the `names` that the list `source` gives.

    `image_of` and `mask_of` are functions from a name to a Path. A missing file goes to `errors`.
    """
    if not names:
        raise ValueError(f"0 samples: {source} lists none.")
    return existing(names, [image_of, mask_of], errors, source)


def read_list(path):
    """The names in a list file, one a line; of several words the first.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a list of names: {error}.") from error
    return [line.split()[0] for line in lines if line.strip()]


def _by_ending(place, ending, errors):
    if not place.is_dir():
        raise ValueError(f"{place} is not a folder.")
    files, folded = {}, {}
    for path in sorted(place.rglob(f"*{ending}")):
        name = path.relative_to(place).as_posix().removesuffix(ending)
        other = folded.setdefault(name.casefold(), path)
        if other is not path:
            errors.append((path, f"has the same name as {other.name} but for case"))
            continue
        files[name] = path
    if not files:
        raise ValueError(f"0 files *{ending} in {place}.")
    return files


def match(images, masks, image_folder, mask_folder, errors):
    """(names, image files, mask files) of two dicts {name: Path}; the rest goes to `errors`."""
    names = sorted(images.keys() & masks.keys())
    if not names:
        raise ValueError(
            f"No image in {image_folder} ({len(images)} files, such as {next(iter(images), None)}) "
            f"has a mask of the same name in {mask_folder} ({len(masks)} files, such as "
            f"{next(iter(masks), None)}).{_suffix_advice(images, masks)}"
        )
    for mine, others, missing in ((images, masks, "mask"), (masks, images, "image")):
        place = mask_folder if missing == "mask" else image_folder
        folded = {name.casefold(): path.name for name, path in others.items()}
        for name in mine.keys() - others.keys():
            near = folded.get(name.casefold())
            hint = f"; {near} differs in upper and lower case" if near else ""
            errors.append((mine[name], f"has no {missing} of the same name in {place}{hint}"))
    return names, [images[n] for n in names], [masks[n] for n in names]


def _suffix_advice(images, masks):
    """What to say when every mask is called as an image, with the same ending behind it."""
    ends = {mask[len(image) :] for mask in masks for image in images if mask.startswith(image)}
    for end in ends:
        if all(mask.endswith(end) and mask[: -len(end)] in images for mask in masks):
            return f" Mask names end in {end!r}: give mask_suffix={end!r}."
    return ""


def _by_name(place, suffix, errors):
    """{path below `place` without its ending: Path}. Names that clash go to `errors`."""
    files, folded = {}, {}
    for path in read.list_images(place):
        name = path.relative_to(place).with_suffix("").as_posix()
        if suffix and not name.endswith(suffix):
            errors.append((path, f"does not end in mask_suffix={suffix!r}"))
            continue
        name = name[: len(name) - len(suffix)]
        other = folded.setdefault(name.casefold(), path)
        if other is not path:
            errors.append((path, f"has the same name as {other.name} but for suffix or case"))
            continue
        files[name] = path
    return files


def report(root, errors, problems):
    """Hand `errors` over to the list `problems`, or stop with them."""
    errors.sort(key=lambda item: str(item[0]))
    if problems is not None:
        problems.extend(errors)
    elif errors:
        listed = "\n".join(f"  {path}: {message}" for path, message in errors[:8])
        more = f"\n  and {len(errors) - 8} more" * (len(errors) > 8)
        count = "1 file is" if len(errors) == 1 else f"{len(errors)} files are"
        raise ValueError(f"{root}: {count} not in order:\n{listed}{more}")


def find_classes(root, split, classes, ignore_label, default=None):
    """(table or None, colour table or None, mask values) from an argument or the data set."""
    if classes is None:
        for place in (root, root / (split or "")):
            for name in ("classes.txt", "classes.json"):
                if (place / name).is_file():
                    return find_classes(root, split, place / name, ignore_label)
        return default, default, {}
    if isinstance(classes, LabelTable):
        return classes, classes, {}
    if isinstance(classes, str | pathlib.Path):
        table, has_colors, mask_values = labels.read_classes(classes, ignore_label)
        return table, table if has_colors else None, mask_values
    if isinstance(classes, int | np.integer):
        return LabelTable.default(classes, ignore_label), None, {}
    return LabelTable(classes, ignore_label=ignore_label), None, {}


def instance_files(paths, function):
    """(extras for `Files`, a note): "instances" where there is every file, else nothing.

    Args:
        paths: a file each sample.
        function: from such a file to int32 (H, W).

    Returns:
        ({"instances": ...}, None); (None, None) without any file; (None, text) without some.
    """
    missing = [path for path in paths if not path.is_file()]
    if not missing:
        return {"instances": (paths, function)}, None
    some = len(missing) < len(paths)
    text = f"no instances: {len(missing)} of {len(paths)} files are missing, such as {missing[0]}"
    return None, text if some else None


def check_class_count(root, table, count, what):
    """ValueError naming `root` unless a table has the `count` classes of `what`."""
    if table.num_classes != count:
        raise ValueError(f"{root}: {what} has {count} classes, but {table.num_classes} were given.")


def given_ids(mask_values):
    """For `MappedReader`: the ids that a table of one's own maps, all others as they are."""
    return {**{i: i for i in range(256)}, **mask_values} if mask_values else None


class MappedReader:
    """Function from a file to uint8 ids: raw ids read by `read_raw`, mapped by `ids`, checked.

    Args:
        read_raw: function from a path to an integer array (H, W).
        table: `LabelTable` of the result.
        ids: {raw id: id}; None leaves ids as they are.
    """

    def __init__(self, read_raw, table, ids=None):
        self.read_raw, self.table, self.ids = read_raw, table, ids

    def __call__(self, path):
        raw = self.read_raw(path)
        if self.ids is None:
            return read.checked_ids(path, raw, self.table)
        lookup = np.full(max(self.ids) + 2, -1)  # the last place stands for all that are larger
        lookup[list(self.ids)] = list(self.ids.values())
        mapped = lookup[np.clip(raw, -1, len(lookup) - 1)]
        if (mapped < 0).any():
            found = ", ".join(map(str, np.unique(raw[mapped < 0])[:8]))
            raise ValueError(
                f"{path}: ids {found} are none of the data set, which are {_ranges(self.ids)}. "
                "Are these masks of another kind?"
            )
        return mapped.astype("uint8")


def _ranges(ids):
    """Whole numbers as "0..33, 255"."""
    ids = np.array(sorted(ids))
    parts = np.split(ids, np.flatnonzero(np.diff(ids) > 1) + 1)
    return ", ".join(f"{p[0]}..{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def save_png(path, array):
    """Write an array as PNG: uint8 (H, W) or (H, W, 3 or 4), or uint16 (H, W); makes its folder."""
    writable_folder(path.parent)
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(array)).save(temporary, "PNG")


def save_jpeg(path, array):
    """Write uint8 (H, W, 3) as JPEG; makes its folder."""
    writable_folder(path.parent)
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(array)).save(temporary, "JPEG", quality=95)
