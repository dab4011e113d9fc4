"""Damage to the bytes of a file: each function changes a bytearray, at a place from 0 to 1, in one of its ways."""

import io
import json
import warnings
import zipfile

import numpy as np

BOMB = 100 << 20  # bytes of a member that takes a thousandth of that


def flip(content, at, more):
    content[min(int(at * len(content)), len(content) - 1)] ^= 1 << more % 8


def flip_some(content, at, more):
    for offset in np.random.default_rng(more).integers(0, len(content), 1 + more % 7):
        content[offset] ^= 1 << int(offset) % 8


def zero_a_page(content, at, more):
    start, length = int(at * len(content)), (16, 512, 4096)[more % 3]
    content[start : start + length] = bytes(len(content[start : start + length]))


def cut_off(content, at, more):
    del content[int(at * len(content)) :]


def cut_out(content, at, more):
    start = int(at * len(content))
    del content[start : start + 1 + more % 100]


def repeat(content, at, more):
    start = int(at * len(content))
    content[start:start] = content[start : start + 1 + more % 100]


def insert_noise(content, at, more):
    start = int(at * len(content))
    content[start : start + 32] = np.random.default_rng(more).bytes(32)


def append(content, at, more):
    content += np.random.default_rng(more).bytes(1 + more % 1000)


OF_BYTES = {f.__name__: f for f in (flip, flip_some, zero_a_page, cut_off, cut_out, repeat, insert_noise, append)}


def _members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archive(content, members):
    packed = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # names that are there twice
        for name, member in members:
            archive.writestr(name, member)
    content[:] = packed.getvalue()


def swap_members(content, at, more):
    names, members = zip(*_members(content).items(), strict=True)
    shift = 1 + more % len(names)
    _archive(content, zip(names, members[shift:] + members[:shift], strict=True))


def leave_out_a_member(content, at, more):
    members = list(_members(content).items())
    del members[more % len(members)]
    _archive(content, members)


def repeat_a_member(content, at, more):
    members = list(_members(content).items())
    _archive(content, [*members, (members[more % len(members)][0], members[0][1])])


def damage_a_member(content, at, more):
    members = _members(content)
    name = list(members)[more % len(members)]
    member = bytearray(members[name])
    (flip, zero_a_page, cut_off, cut_out)[more % 4](member, at, more)
    _archive(content, {**members, name: bytes(member)}.items())


def another_array(content, at, more):
    """A whole member that holds what nobody expects."""
    members = _members(content)
    name, array = list(members)[more % len(members)], ARRAYS[more % len(ARRAYS)]()
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    _archive(content, {**members, name: buffer.getvalue()}.items())


def another_header(content, at, more):
    """The header of a member of NumPy's, with other words in it."""
    members = _members(content)
    name = list(members)[more % len(members)]
    _archive(content, {**members, name: _header(HEADERS[more % len(HEADERS)]) + members[name][128:]}.items())


def _header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def bomb(content, at, more):
    """A member that grows a thousandfold, beyond what its own header says or as it says."""
    members = _members(content)
    name = list(members)[more % len(members)]
    honest = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,)}" % (BOMB // 4)
    start = members[name] if at < 0.5 else _header(honest)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for other in set(members) - {name}:
            archive.writestr(other, members[other])
        with archive.open(name, "w", force_zip64=True) as member:
            member.write(start)
            for _ in range(BOMB >> 20):
                member.write(bytes(1 << 20))
    content[:] = packed.getvalue()


def another_json(content, at, more):
    """The header of a model with a word of it exchanged."""
    members = _members(content)
    if "header.npy" not in members:
        return flip_some(content, at, more)
    header = json.loads(str(np.load(io.BytesIO(members["header.npy"]))))
    places = list(_places(header))
    holder, key = places[int(at * len(places))]
    holder[key] = WORDS[more % len(WORDS)]
    buffer = io.BytesIO()
    np.save(buffer, np.array(json.dumps(header)))
    return _archive(content, {**members, "header.npy": buffer.getvalue()}.items())


def _places(value):
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


ARRAYS = (
    lambda: np.array(None), lambda: np.array([{}, 1], object), lambda: np.array("text"), lambda: np.array(3),
    lambda: np.array(np.nan), lambda: np.zeros(0), lambda: np.zeros((7, 30, 2), np.float32),
    lambda: np.full((30, 7), np.nan),
    lambda: np.zeros((30, 33), complex), lambda: np.zeros(50, [("a", int), ("b", "O")]), lambda: np.array(["x"] * 50),
    lambda: np.zeros((50, 8), ">f8"), lambda: np.asfortranarray(np.ones((30, 33), np.float16)),
)  # fmt: skip
HEADERS = (
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 8), }",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 8), }",
    b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", b"{'descr': '<f4', 'fortran_order': False, ",
    b"{'descr': '<f4', 'fortran_order': 1, 'shape': 3, }",
    b"{'descr': '<U99999999', 'fortran_order': False, 'shape': ()}",
    b"((((((((((" * 20, b"", b"\xff\xfe", b"__import__('os')", b"{" + b"[" * 300,
)  # fmt: skip
WORDS = (
    None, True, -1, 0, 1.5, 10**30, -(10**9), 10**9, float("nan"), "", "Linear", "float16", "<f4", "\0", [], {}, [[]],
)  # fmt: skip

OF_ARCHIVES = {f.__name__: f for f in (swap_members, leave_out_a_member, repeat_a_member, damage_a_member,
                                       another_array, another_header, bomb, another_json)}  # fmt: skip
ALL = {**OF_BYTES, **OF_ARCHIVES}
