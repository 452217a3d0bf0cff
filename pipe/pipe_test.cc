// Parts of the program, which are called here by themselves.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "testing/processes/child_process.h"
#include "testing/processes/in_child.h"

// It has a main of its own.
#define main PipeMain
#include "pipe/pipe.cc"
#undef main

namespace {

using ipc_testing::Exited;
using ipc_testing::InChild;

const ipc::Options kOptions{{"MESSAGE", "message"}};

ipc::Pipe MakePipe() {
  int ends[2] = {};
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const int complete = ::eventfd(0, EFD_CLOEXEC);
  return {ipc::UniqueFd(ends[0]), ipc::UniqueFd(ends[1]),
          ipc::UniqueFd(complete)};
}

// What stdio holds at the fork comes out once, and before what the child
// prints.
TEST(PipeTest, WhatStdioHoldsIsWrittenBeforeAndOnce) {
  std::fflush(nullptr);  // What GoogleTest has printed.
  auto child = InChild([] {
    std::fputs("before ", stdout);
    ipc::Run(kOptions);
    std::fputs("after", stdout);
    std::fflush(stdout);
    return 0;
  });
  EXPECT_EQ(child.Wait(), Exited(0)) << child.Err();
  EXPECT_EQ(child.Out(), "before message\nafter");
}

// The child does not end as the parent does, which would flush and destroy.
TEST(PipeTest, WhatTheParentDoesAtItsEndIsNotTheChilds) {
  std::fflush(nullptr);
  auto child = InChild([] {
    std::atexit([] { std::puts("the end"); });
    ipc::Run(kOptions);
    std::exit(0);
    return 1;
  });
  EXPECT_EQ(child.Wait(), Exited(0)) << child.Err();
  EXPECT_EQ(child.Out(), "message\nthe end\n");
}

TEST(PipeTest, AnErrorIsNotTheEnd) {
  ipc::Pipe pipe = MakePipe();
  pipe.read_end = ipc::UniqueFd(::open("/", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(::eventfd_write(pipe.complete.get(), 1), 0);
  EXPECT_EQ(ipc_testing::ErrorOf([&] { ipc::RunChild(pipe); }),
            std::pair(EISDIR, std::string("read 'pipe': Is a directory")));
}

TEST(PipeTest, AnEndBeforeAllIsWrittenIsAnError) {
  ipc::Pipe pipe = MakePipe();
  EXPECT_EQ(ipc_testing::ErrorOf([&] { ipc::RunChild(pipe); }),
            std::pair(EPIPE, std::string("read 'pipe': Broken pipe; the writer "
                                         "died: bytes may be missing")));
}

}  // namespace
