"""How much memory this process may still take."""


def available_memory():
    """Bytes: what is free in the machine, or less if the process has a limit of its own."""
    try:
        with open("/proc/meminfo") as f:
            entries = dict(line.split(":") for line in f)
        free = int(entries["MemAvailable"].split()[0]) * 1024  # counts what caches would give back
    except (OSError, ValueError, KeyError):
        return float("inf")  # not Linux: leave it to the allocator
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        with open("/proc/self/statm") as f:
            taken = int(f.read().split()[0]) * resource.getpagesize()
        free = min(free, limit - taken)
    return free
