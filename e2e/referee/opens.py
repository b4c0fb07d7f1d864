"""libkdumpfile looks at dumps that were cut short.

Standard input is one JSON object: dumps, and a file with the memory that all of
them are of, from an address on. Standard output is one JSON object: for each
dump how many pages it has, how many of those are wrong, and what it said.
"""

import json
import mmap
import sys

import kdumpfile

job = json.load(sys.stdin)
PAGE = 4096
memory_file = open(job["memory"], "rb")
memory = mmap.mmap(memory_file.fileno(), 0, access=mmap.ACCESS_READ)
base = job["base"]


def look(path):
    ctx = kdumpfile.Context()
    ctx.open(path)
    # The machine is none whose page tables anybody would understand.
    count = ctx.attr["max_pfn"]
    bits = bytes(ctx.attr["file.pagemap"].get_bits(0, count - 1))
    def why(pfn, n):
        """What is wrong with n pages, if anything."""
        try:
            got = bytes(ctx.read(kdumpfile.MACHPHYSADDR, pfn * PAGE, n * PAGE))
        except Exception as e:
            return repr(e)
        return "" if got == memory[pfn * PAGE - base : (pfn + n) * PAGE - base] else "differs"

    pages, wrong, first = 0, 0, ""
    pfn = base // PAGE
    while pfn < count:
        n = 0
        while n < 256 and pfn + n < count and bits[(pfn + n) >> 3] >> ((pfn + n) & 7) & 1:
            n += 1
        if n > 0 and why(pfn, n):
            for page in range(pfn, pfn + n):
                said = why(page, 1)
                if said:
                    wrong += 1
                    first = first or "page frame %#x: %s" % (page, said)
        pages += n
        pfn += max(n, 1)
    return {"pages": pages, "wrong": wrong, "first": first}


answers = []
for path in job["dumps"]:
    try:
        answers.append(look(path))
    except Exception as e:
        answers.append({"error": repr(e)})
json.dump({"answers": answers}, sys.stdout)
