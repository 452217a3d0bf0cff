// The reader for test_classic_writer.cc: it prints what text it finds, at once.
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int /*argc*/, char** argv) {
  const int fd = shm_open(argv[1], O_RDWR, 0);
  if (fd < 0) return 1;
  void* memory = mmap(nullptr, 100, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return 1;
  printf("%.*s\n", 100, static_cast<const char*>(memory));
  munmap(memory, 100);
  close(fd);
}
