// Unit tests of name.h.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <mqueue.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "testing/processes/child_process.h"
#include "testing/processes/in_child.h"
#include "testing/processes/manners.h"

// What the header calls in its place.
uid_t WatchedGeteuid();

#define geteuid WatchedGeteuid
#include "name.h"
#undef geteuid

namespace {

uid_t added_to_uid = 0;

}  // namespace

uid_t WatchedGeteuid() { return ::geteuid() + added_to_uid; }

namespace {

using ipc::kOurs;
using ipc::OwnedName;
using ipc::UniqueFd;
using ipc_testing::ErrorOf;
using ipc_testing::kAnotherPrograms;
using ipc_testing::kAnotherUsers;
using ipc_testing::kInUse;
using testing::Test;

class NameTest : public Test {
 protected:
  ~NameTest() override { added_to_uid = 0; }

  UniqueFd Open(int flags = 0) const {
    return UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC | flags));
  }
  // Makes a file. A left-over has the mark, and no owner.
  UniqueFd Make(mode_t mark = kOurs) const {
    const int flags = O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC;
    UniqueFd fd(::open(path_.c_str(), flags, 0600 | mark));
    EXPECT_TRUE(fd);
    return fd;
  }
  bool NameIsThere() const { return ::access(path_.c_str(), F_OK) == 0; }
  std::unique_ptr<OwnedName> Own(const UniqueFd& fd) const {
    return std::make_unique<OwnedName>(::unlink, "open", path_, fd.get());
  }
  // As shm/writer does.
  void RemoveLeftover(UniqueFd old) const {
    if (!old && errno == ENOENT) return;
    ipc::CheckOurs(old.get(), S_IFREG, "open", path_);
    Own(old);
  }
  void RemoveLeftover() const { RemoveLeftover(Open()); }
  std::string Text(const std::string& reason) const {
    return "open '" + path_ + "': " + reason;
  }

  const ipc_testing::TemporaryDirectory directory_;
  const std::string path_ = directory_ / "name";
};

// --- Whose an object is ------------------------------------------------------

// The call that makes an object stores the mark, whatever the umask, so that
// there is no moment at which the object is there without it.
int MakeMarked(const std::string& path, const std::string& name) {
  const mode_t mode = 0600 | kOurs;
  const int flags = O_CREAT | O_EXCL | O_RDWR;
  ::umask(0777);
  const std::string fifo = path + ".fifo";
  const UniqueFd file(::open(path.c_str(), flags, mode));
  const UniqueFd memory(::shm_open(name.c_str(), flags, mode));
  const UniqueFd queue(::mq_open(name.c_str(), flags, mode, nullptr));
  ::shm_unlink(name.c_str());
  ::mq_unlink(name.c_str());
  ::mkfifo(fifo.c_str(), mode);
  const UniqueFd pipe(::open(fifo.c_str(), O_PATH));
  int unmarked = 0;
  for (const UniqueFd* fd : {&file, &memory, &queue, &pipe}) {
    struct stat status {};
    if (::fstat(fd->get(), &status) == -1) return 100;
    if ((status.st_mode & 07777) != kOurs) ++unmarked;
  }
  return unmarked;
}

TEST_F(NameTest, MarkIsStoredByEachCallThatMakesAnObject) {
  auto child = ipc_testing::InChild(
      [&] { return MakeMarked(path_, ipc_testing::UniqueName()); });
  EXPECT_EQ(child.Wait(), ipc_testing::Exited(0));
}

TEST_F(NameTest, MarkIsStoredForAnOrdinaryUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "the test before was by one";
  ASSERT_EQ(::chmod(directory_.path().c_str(), 0777), 0);
  auto child = ipc_testing::InChild([&] {
    const uid_t nobody = 65534;
    if (::setresuid(nobody, nobody, nobody) == -1) return 101;
    return MakeMarked(path_, ipc_testing::UniqueName());
  });
  EXPECT_EQ(child.Wait(), ipc_testing::Exited(0));
}

TEST_F(NameTest, OursHasTheMarkTheTypeAndTheUser) {
  const UniqueFd fd = Make();
  ipc::CheckOurs(fd.get(), S_IFREG, "open", path_);
  EXPECT_EQ(
      ErrorOf([&] { ipc::CheckOurs(fd.get(), S_IFIFO, "open", path_); }).second,
      Text(kAnotherPrograms));
  added_to_uid = 1;
  EXPECT_EQ(
      ErrorOf([&] { ipc::CheckOurs(fd.get(), S_IFREG, "open", path_); }).second,
      Text(kAnotherUsers));
}

TEST_F(NameTest, OursIsNotWhatHasNoMark) {
  const UniqueFd fd = Make(0);
  EXPECT_EQ(
      ErrorOf([&] { ipc::CheckOurs(fd.get(), S_IFREG, "open", path_); }).second,
      Text(kAnotherPrograms));
  // Where any program's is well, the type and the user still count.
  ipc::CheckOurs(fd.get(), S_IFREG, "open", path_, 0);
  EXPECT_EQ(ErrorOf([&] {
              ipc::CheckOurs(fd.get(), S_IFIFO, "open", path_, 0);
            }).first,
            EEXIST);
  added_to_uid = 1;
  EXPECT_EQ(ErrorOf([&] {
              ipc::CheckOurs(fd.get(), S_IFREG, "open", path_, 0);
            }).first,
            EACCES);
}

TEST_F(NameTest, OursIsNotALink) {
  const std::string link = directory_ / "link";
  Make();
  ASSERT_EQ(::symlink(path_.c_str(), link.c_str()), 0);
  const UniqueFd fd(::open(link.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  EXPECT_EQ(
      ErrorOf([&] { ipc::CheckOurs(fd.get(), S_IFREG, "open", path_); }).first,
      EEXIST);
}

// --- Who owns a name ---------------------------------------------------------

TEST_F(NameTest, OwnedIsRemovedInTheEnd) {
  const UniqueFd fd = Make();
  {
    const auto owned = Own(fd);
    EXPECT_TRUE(NameIsThere());
  }
  EXPECT_FALSE(NameIsThere());
}

TEST_F(NameTest, OwnedThatIsKeptStays) {
  const UniqueFd fd = Make();
  Own(fd)->Keep();
  EXPECT_TRUE(NameIsThere());
}

TEST_F(NameTest, OwnedByOneAtATime) {
  const UniqueFd fd = Make();
  const auto owned = Own(fd);
  const UniqueFd other = Open();
  EXPECT_EQ(ErrorOf([&] { Own(other); }).second, Text(kInUse));
  EXPECT_TRUE(NameIsThere());
}

// Its owner has been killed: the kernel has closed the descriptor.
TEST_F(NameTest, OwnedByTheNextOnceItsOwnerHasDied) {
  UniqueFd dead = Make();
  Own(dead)->Keep();
  const UniqueFd other = Open();
  EXPECT_EQ(ErrorOf([&] { Own(other); }).first, EBUSY);
  dead = UniqueFd();
  Own(other);
  EXPECT_FALSE(NameIsThere());
}

// Somebody has removed it, and another owner has made an object of its own.
TEST_F(NameTest, OwnedThatWasTakenAwayIsLeftToItsSuccessor) {
  const UniqueFd fd = Make();
  {
    const auto owned = Own(fd);
    ASSERT_EQ(::unlink(path_.c_str()), 0);
    Make();
  }
  EXPECT_TRUE(NameIsThere());
}

TEST_F(NameTest, OwnedIsNotWhatWasRemovedMeanwhile) {
  const UniqueFd fd = Make();
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  Make();
  EXPECT_EQ(ErrorOf([&] { Own(fd); }).second, Text(kInUse));
  EXPECT_TRUE(NameIsThere());
}

TEST_F(NameTest, OwnedThatCanNotBeLockedIsAFailure) {
  Make();
  EXPECT_EQ(ErrorOf([&] { Own(UniqueFd()); }).second,
            "flock '" + path_ + "': Bad file descriptor");
  EXPECT_TRUE(NameIsThere()) << "it may be another's";
}

// --- What an owner has left --------------------------------------------------

TEST_F(NameTest, LeftoverMayLack) {
  RemoveLeftover();
  EXPECT_FALSE(NameIsThere());
}

TEST_F(NameTest, LeftoverOfADeadOwnerIsRemoved) {
  Make();
  RemoveLeftover();
  EXPECT_FALSE(NameIsThere());
}

TEST_F(NameTest, LeftoverIsNotWhatALivingOwnerHas) {
  const UniqueFd fd = Make();
  const auto owned = Own(fd);
  EXPECT_EQ(ErrorOf([&] { RemoveLeftover(); }).second, Text(kInUse));
  EXPECT_TRUE(NameIsThere());
}

TEST_F(NameTest, LeftoverIsNotAnotherPrograms) {
  Make(0);
  EXPECT_EQ(ErrorOf([&] { RemoveLeftover(); }).second, Text(kAnotherPrograms));
  EXPECT_TRUE(NameIsThere());
}

TEST_F(NameTest, LeftoverIsNotOfAnotherType) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600 | kOurs), 0);
  EXPECT_EQ(ErrorOf([&] { RemoveLeftover(); }).second, Text(kAnotherPrograms));
  EXPECT_TRUE(NameIsThere());
}

TEST_F(NameTest, LeftoverIsNotAnotherUsers) {
  Make();
  added_to_uid = 1;
  EXPECT_EQ(ErrorOf([&] { RemoveLeftover(); }).second, Text(kAnotherUsers));
  EXPECT_TRUE(NameIsThere());
}

TEST_F(NameTest, LeftoverIsNotAnotherUsersEvenForRoot) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  Make();
  ASSERT_EQ(::chown(path_.c_str(), 65534, 65534), 0);
  ASSERT_EQ(::chmod(path_.c_str(), 0600 | kOurs), 0);
  EXPECT_EQ(ErrorOf([&] { RemoveLeftover(); }).second, Text(kAnotherUsers));
  EXPECT_TRUE(NameIsThere());
}

TEST_F(NameTest, LeftoverThatCanNotBeOpenedIsAFailure) {
  ASSERT_EQ(::mkdir(path_.c_str(), 0700), 0);
  EXPECT_EQ(ErrorOf([&] { RemoveLeftover(); }).second, Text("Is a directory"));
}

// Another starter has opened the same left-over, and is the first to lock it.
TEST_F(NameTest, LeftoverIsRemovedByOne) {
  Make();
  UniqueFd late = Open();
  RemoveLeftover();
  const UniqueFd fd = Make();
  const auto owned = Own(fd);
  EXPECT_EQ(ErrorOf([&] { RemoveLeftover(std::move(late)); }).second,
            Text(kInUse));
  EXPECT_TRUE(NameIsThere());
}

// Its maker has not locked it yet, so that it looks like a left-over. Then who
// removes it goes on, and its maker learns that it is in use.
TEST_F(NameTest, LeftoverThatWasANewObjectIsItsMakersNoMore) {
  const UniqueFd made = Make();
  RemoveLeftover();
  const UniqueFd fd = Make();
  const auto owned = Own(fd);
  EXPECT_EQ(ErrorOf([&] { Own(made); }).second, Text(kInUse));
  EXPECT_TRUE(NameIsThere());
}

// Starts as the samples do: those that fail say that it is in use.
std::unique_ptr<OwnedName> Start(const std::string& path, UniqueFd& fd,
                                 std::atomic<int>& strange_errors) {
  try {
    if (const UniqueFd old(::open(path.c_str(), O_RDWR));
        old || errno != ENOENT) {
      ipc::CheckOurs(old.get(), S_IFREG, "open", path);
      const OwnedName leftover(::unlink, "open", path, old.get());
    }
    const int flags = O_CREAT | O_EXCL | O_RDWR;
    fd = UniqueFd(
        ipc::Check(::open(path.c_str(), flags, 0600 | kOurs), "open", path));
    return std::make_unique<OwnedName>(::unlink, "open", path, fd.get());
  } catch (const ipc::Error& error) {
    const int number = error.code().value();
    if (number != EBUSY && number != EEXIST) ++strange_errors;
    return nullptr;
  }
}

// Each opens the name for itself, so that threads stand for processes here.
TEST_F(NameTest, RaceOfStartersIsWonByOne) {
  constexpr int kStarters = 3;
  constexpr int kRounds = 300;
  std::atomic<int> owners = 0;
  std::atomic<int> strange_errors = 0;
  int wrong_rounds = 0;
  int lost_names = 0;
  // At the end of each phase, before the next one begins.
  const auto judge = [&, phase = 0]() mutable noexcept {
    switch (phase++ % 3) {
      case 0:  // They are about to start, every other time on a left-over.
        if (phase % 2 == 0) Make();
        break;
      case 1:  // Whoever has won owns the name.
        if (owners != 1) ++wrong_rounds;
        if (!NameIsThere()) ++lost_names;
        break;
      default:
        owners = 0;
        ::unlink(path_.c_str());
    }
  };
  std::barrier phase(kStarters, judge);
  std::vector<std::thread> starters;
  starters.reserve(kStarters);
  for (int i = 0; i < kStarters; ++i) {
    starters.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        phase.arrive_and_wait();
        UniqueFd fd;
        auto owned = Start(path_, fd, strange_errors);
        if (owned) ++owners;
        phase.arrive_and_wait();
        owned.reset();
        phase.arrive_and_wait();
      }
    });
  }
  for (std::thread& starter : starters) starter.join();
  EXPECT_EQ(wrong_rounds, 0);
  EXPECT_EQ(lost_names, 0);
  EXPECT_EQ(strange_errors, 0);
}

// --- Locks -------------------------------------------------------------------

TEST_F(NameTest, LockIsSeenByOthersUntilItsDescriptorIsClosed) {
  UniqueFd one = Make();
  const UniqueFd other = Open();
  EXPECT_FALSE(ipc::IsLocked(other.get(), 0, path_));
  EXPECT_TRUE(ipc::SetLock(one.get(), F_WRLCK, 0, 1, path_));
  EXPECT_TRUE(ipc::SetLock(one.get(), F_WRLCK, 0, 1, path_))
      << "its own is no obstacle";
  EXPECT_FALSE(ipc::IsLocked(one.get(), 0, path_));
  EXPECT_TRUE(ipc::IsLocked(other.get(), 0, path_));
  EXPECT_FALSE(ipc::SetLock(other.get(), F_WRLCK, 0, 1, path_));
  one = UniqueFd();
  EXPECT_FALSE(ipc::IsLocked(other.get(), 0, path_));
  EXPECT_TRUE(ipc::SetLock(other.get(), F_WRLCK, 0, 1, path_));
}

TEST_F(NameTest, LocksAreOfBytes) {
  const UniqueFd one = Make();
  const UniqueFd other = Open();
  EXPECT_TRUE(ipc::SetLock(one.get(), F_WRLCK, 1, 1, path_));
  EXPECT_FALSE(ipc::IsLocked(other.get(), 0, path_));
  EXPECT_TRUE(ipc::IsLocked(other.get(), 1, path_));
  EXPECT_TRUE(ipc::SetLock(other.get(), F_WRLCK, 0, 1, path_));
  EXPECT_TRUE(ipc::SetLock(other.get(), F_WRLCK, 2, 0, path_))
      << "all after it";
  EXPECT_TRUE(ipc::IsLocked(one.get(), 1000000, path_));
  EXPECT_FALSE(ipc::SetLock(other.get(), F_WRLCK, 0, 0, path_))
      << "one of all is locked";
  EXPECT_TRUE(ipc::SetLock(other.get(), F_UNLCK, 0, 0, path_));
  EXPECT_FALSE(ipc::IsLocked(one.get(), 0, path_));
  EXPECT_FALSE(ipc::IsLocked(one.get(), 1000000, path_));
  EXPECT_TRUE(ipc::IsLocked(other.get(), 1, path_)) << "the other's stays";
}

// Who removes a left-over must not look like a living owner.
TEST_F(NameTest, LockOfANameIsNotThatOfAByte) {
  const UniqueFd fd = Make();
  const auto owned = Own(fd);
  const UniqueFd other = Open();
  EXPECT_FALSE(ipc::IsLocked(other.get(), 0, path_));
  EXPECT_TRUE(ipc::SetLock(other.get(), F_WRLCK, 0, 0, path_));
}

TEST_F(NameTest, LockThatFailsIsAFailure) {
  EXPECT_EQ(ErrorOf([] { ipc::SetLock(-1, F_WRLCK, 0, 1, "name"); }).second,
            "fcntl 'name': Bad file descriptor");
  EXPECT_EQ(ErrorOf([] { ipc::IsLocked(-1, 0, "name"); }).second,
            "fcntl 'name': Bad file descriptor");
}

// The head of posix.h says so, as it is a trap: the owner dies, and nobody
// notices.
TEST_F(NameTest, LocksAreKeptByAForkedChild) {
  int ends[2] = {};
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  UniqueFd fd = Make();
  Own(fd)->Keep();
  EXPECT_TRUE(ipc::SetLock(fd.get(), F_WRLCK, 0, 1, path_));
  const pid_t child = ::fork();
  ASSERT_NE(child, -1);
  if (child == 0) {
    write_end = UniqueFd();
    char byte = 0;
    [[maybe_unused]] auto n = ::read(read_end.get(), &byte, 1);  // Its end.
    ::_exit(0);
  }
  fd = UniqueFd();
  const UniqueFd other = Open();
  EXPECT_TRUE(ipc::IsLocked(other.get(), 0, path_));
  EXPECT_EQ(ErrorOf([&] { RemoveLeftover(); }).first, EBUSY);
  write_end = UniqueFd();
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_FALSE(ipc::IsLocked(other.get(), 0, path_));
  RemoveLeftover();
  EXPECT_FALSE(NameIsThere());
}

}  // namespace
