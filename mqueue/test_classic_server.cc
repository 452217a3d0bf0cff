// A stranger to the samples: a queue's server as it is written by who knows
// only the man pages. It takes no lock and sets no mark. It prints the message
// that it gets, and is quit of the queue.
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  mq_attr attributes = {};
  attributes.mq_maxmsg = 10;
  attributes.mq_msgsize = 128;
  const mqd_t queue =
      mq_open(argv[1], O_CREAT | O_EXCL | O_RDONLY, 0600, &attributes);
  if (queue == -1) return 1;
  puts("waiting");
  fflush(stdout);
  char message[128];
  const ssize_t size = mq_receive(queue, message, sizeof(message), nullptr);
  if (size == -1) return 1;
  printf("%.*s\n", static_cast<int>(size), message);
  mq_close(queue);
  return mq_unlink(argv[1]) == 0 ? 0 : 1;
}
