"""Memory of the C library that stays with the process."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
LARGEST = 2**31 - 1


def keep_memory() -> bool:
    """Let freed blocks be taken again, instead of going back to the system; return whether the C library can (glibc).

    Maps of a whole image take tens of MB. By default each is fetched anew from the system, which clears it page by
    page: on a virtual machine that took longer than computing it. The process keeps the most that it ever held.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library: nothing changes
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))
