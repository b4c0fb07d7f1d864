"""Somebody else's readers look at a dump.

Standard input is one JSON object: the files of the dump, a raw copy of the same
memory with its segments, runs of pages that the dump must have (without, all that
its bitmap promises), and virtual addresses with the bytes expected there. Standard
output is one JSON object: what libkdumpfile and drgn said.
"""

import hashlib
import json
import mmap
import sys
import time

import drgn
import kdumpfile

job = json.load(sys.stdin)
PAGE = job["page_size"]
CHUNK = 256 * PAGE
MAX_WRONG = 20

raw_file = open(job["raw"], "rb")
raw = mmap.mmap(raw_file.fileno(), 0, access=mmap.ACCESS_READ)
view = memoryview(raw)


def raw_bytes(addr, size):
    """The same physical memory out of the raw copy; None where it has none."""
    for phys, length, offset in job["segments"]:
        if phys <= addr and addr + size <= phys + length:
            return view[offset + addr - phys : offset + addr - phys + size]
    out = bytearray(size)
    found = False
    for phys, length, offset in job["segments"]:
        start, end = max(addr, phys), min(addr + size, phys + length)
        if start < end:
            found = True
            out[start - addr : end - addr] = view[offset + start - phys : offset + end - phys]
    return bytes(out) if found else None


def runs(bits, count):
    """Runs [first, last) of set bits."""
    first = None
    for i, byte in enumerate(bits):
        if byte == 0 and first is None:
            continue
        if byte == 255 and first is not None:
            continue
        for j in range(8):
            n = 8 * i + j
            on = byte >> j & 1 and n < count
            if on and first is None:
                first = n
            elif not on and first is not None:
                yield first, n
                first = None
    if first is not None:
        yield first, count


def compare(read, bits, count):
    """Compares every page that the bitmap promises, through one reader."""
    pages, wrong, total_wrong = 0, [], 0
    for first, last in job["runs"] or runs(bits, count):
        pages += last - first
        addr, end = first * PAGE, last * PAGE
        while addr < end:
            size = min(CHUNK, end - addr)
            try:
                ok = read(addr, size) == raw_bytes(addr, size)
            except Exception:
                ok = False
            if not ok:
                for page in range(addr, addr + size, PAGE):
                    try:
                        why = None if read(page, PAGE) == raw_bytes(page, PAGE) else "differs"
                    except Exception as e:
                        why = repr(e)
                    if why:
                        total_wrong += 1
                        if len(wrong) < MAX_WRONG:
                            wrong.append([page // PAGE, why])
            addr += size
    return {"pages": pages, "wrong": total_wrong, "examples": wrong}


def virtual(read):
    """Reads each virtual address that the job names."""
    out = {}
    for r in job["reads"]:
        want = bytes.fromhex(r["hex"])
        try:
            got = bytes(read(r["va"], len(want)))
            out[r["name"]] = "" if got == want else "got %s; want %s" % (got[:64].hex(), want[:64].hex())
        except Exception as e:
            out[r["name"]] = repr(e)
    return out


def with_libkdumpfile():
    start = time.time()
    ctx = kdumpfile.Context()
    if len(job["files"]) == 1:
        ctx.open(job["files"][0])
    else:
        fds = [open(name, "rb") for name in job["files"]]
        ctx.open_fdset(*[f.fileno() for f in fds])
    ctx.attr["addrxlat.ostype"] = "linux"
    count = ctx.attr["max_pfn"]
    bits = bytes(ctx.attr["file.pagemap"].get_bits(0, count - 1))
    out = {
        "format": ctx.attr["file.description"],
        "arch": ctx.attr["arch.name"],
        "release": ctx.attr["linux.uts.release"],
        "cpus": ctx.attr.get("cpu.number", 0),
        "bitmap": hashlib.sha256(bits.rstrip(b"\0")).hexdigest(),
        "virtual": virtual(lambda a, n: ctx.read(kdumpfile.KVADDR, a, n)),
        "physical": compare(lambda a, n: ctx.read(kdumpfile.MACHPHYSADDR, a, n)[:], bits, count),
    }
    out["seconds"] = time.time() - start
    return out, bits, count


def with_drgn(bits, count):
    start = time.time()
    prog = drgn.Program()
    prog.set_core_dump(job["files"][0])
    out = {
        "arch": str(prog.platform.arch).rsplit(".", 1)[-1],
        "release": prog["UTS_RELEASE"].string_().decode(),
        "virtual": virtual(prog.read),
        "physical": compare(lambda a, n: prog.read(a, n, physical=True), bits, count),
    }
    out["seconds"] = time.time() - start
    return out


result, bits, count = {}, b"", 0
try:
    result["libkdumpfile"], bits, count = with_libkdumpfile()
except Exception as e:
    result["libkdumpfile_error"] = repr(e)
try:
    result["drgn"] = with_drgn(bits, count)
except Exception as e:
    result["drgn_error"] = repr(e)
json.dump(result, sys.stdout)
