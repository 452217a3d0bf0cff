// A stranger to the samples: shared memory as it is done by who knows only the
// man pages. It takes no lock, sets no mark, and leaves synchronisation to
// whoever types: it goes on at the end of its standard input.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int /*argc*/, char** argv) {
  const int fd = shm_open(argv[1], O_CREAT | O_EXCL | O_RDWR, 0600);
  if (fd < 0 || ftruncate(fd, 100) != 0) return 1;
  void* memory = mmap(nullptr, 100, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return 1;
  memcpy(memory, "classic", sizeof("classic"));
  puts("written");
  fflush(stdout);
  while (getchar() != EOF) continue;
  munmap(memory, 100);
  close(fd);
  return shm_unlink(argv[1]) == 0 ? 0 : 1;
}
