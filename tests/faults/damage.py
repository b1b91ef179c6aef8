"""What can happen to a file on a disk: one fault, drawn from a generator."""

import os
import shutil
from pathlib import Path

import numpy as np


def flip_bit(random, data):
    position = random.integers(len(data))
    data[position] ^= 1 << random.integers(8)
    return data


def replace_byte(random, data):
    position = random.integers(len(data))
    data[position] ^= random.integers(1, 256)
    return data


def zero_block(random, data):
    start = random.integers(len(data))
    data[start : start + 64] = bytes(len(data[start : start + 64]))
    return data


def scramble_block(random, data):
    start = random.integers(len(data))
    data[start : start + 512] = random.bytes(len(data[start : start + 512]))
    return data


def cut_off(random, data):
    return data[: random.integers(len(data))]


def cut_out(random, data):
    start = random.integers(len(data))
    return data[:start] + data[start + 16 :]


def repeat_part(random, data):
    start = random.integers(len(data))
    return data[: start + 16] + data[start:]


def append(random, data):
    return data + random.bytes(int(random.integers(1, 64)))


def empty(random, data):
    return b""


# Single bits and bytes are what disks and memory get wrong most, so they come more often.
OF_BYTES = [flip_bit] * 6 + [replace_byte] * 4 + [
    zero_block, scramble_block, cut_off, cut_off, cut_out, repeat_part, append, empty,
]  # fmt: skip


def delete(random, path, others):
    path.unlink()


def become_a_folder(random, path, others):
    path.unlink()
    path.mkdir()


def become_another(random, path, others):
    others = [other for other in others if other != path]
    if not others:
        return delete(random, path, others)
    return shutil.copyfile(others[random.integers(len(others))], path)


OF_FILES = [delete, become_a_folder, become_another]


def damage(random: np.random.Generator, folder: Path) -> str:
    """Damages one file below a folder, sometimes without changing its time; returns what was done to which."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))  # locks are empty
    path = files[random.integers(len(files))]
    name, stat = path.relative_to(folder), path.stat()
    if random.random() < 0.1 or not stat.st_size:
        fault = OF_FILES[random.integers(len(OF_FILES))]
        fault(random, path, files)
    else:
        fault = OF_BYTES[random.integers(len(OF_BYTES))]
        path.write_bytes(bytes(fault(random, bytearray(path.read_bytes()))))
    if path.exists() and random.random() < 0.5:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return f"{fault.__name__} {name}"
