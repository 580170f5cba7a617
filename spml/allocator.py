"""Makes the C library keep freed memory for the process."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
LARGEST = 2**31 - 1


def keep_memory() -> bool:
    """Reuse freed blocks instead of returning them to the system. Returns whether the C library can do so (glibc).

    Maps of a whole image take tens of MB. By default the C library requests each from the system anew, which clears it
    page by page; on a virtual machine that took longer than computing it. The process keeps its peak of memory.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library: nothing changes
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))
