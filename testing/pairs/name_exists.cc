// name_exists NAME: exit status 0 if there is shared memory or a message queue
// of that name, 1 if not, 2 if that can't be told. Asks the kernel, since
// /dev/mqueue may not be mounted, or be another namespace's.
#include <fcntl.h>
#include <mqueue.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  if (::shm_open(argv[1], O_RDONLY, 0U) != -1) return 0;
  if (errno == ENOENT && ::mq_open(argv[1], O_RDONLY) != -1) return 0;
  if (errno == ENOENT) return 1;
  std::perror(argv[1]);
  return 2;
}
