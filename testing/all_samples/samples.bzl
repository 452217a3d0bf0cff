"""The samples, for what runs all of them."""

DIRECTORIES = [
    "fifo",
    "mqueue",
    "pipe",
    "shm",
    "socket",
]

SAMPLES = [
    "//fifo:reader",
    "//fifo:writer",
    "//mqueue:client",
    "//mqueue:server",
    "//pipe",
    "//pipe:filter",
    "//shm:memfd_reader",
    "//shm:memfd_writer",
    "//shm:reader",
    "//shm:ring_reader",
    "//shm:ring_writer",
    "//shm:writer",
    "//socket:client",
    "//socket:server",
]

# Where each is, in a variable of its own: FIFO_READER, PIPE, SHM_RING_READER, ...
SAMPLES_ENV = {
    sample[2:].replace(":", "_").upper(): "$(rootpath {})".format(sample)
    for sample in SAMPLES
}
