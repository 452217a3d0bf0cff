#include "socket/address.h"

#include <gtest/gtest.h>

#include <cstddef>

#include "testing/processes/child_process.h"

namespace {

using ipc::Addresses;
using ipc::Options;
using ipc::PathAddress;
using ipc::TcpAddresses;

const sockaddr_un& Path(const Addresses& address) {
  return *reinterpret_cast<const sockaddr_un*>(address->ai_addr);
}

TEST(PathAddress, IsOneAndEnds) {
  const auto address = PathAddress("/tmp/x", "bind");
  EXPECT_EQ(address->ai_family, AF_UNIX);
  EXPECT_EQ(address->ai_next, nullptr);
  EXPECT_EQ(Path(address).sun_family, AF_UNIX);
  EXPECT_STREQ(Path(address).sun_path, "/tmp/x");
  EXPECT_EQ(address->ai_addrlen, sizeof(sockaddr_un));
}

TEST(PathAddress, HasUpTo107Bytes) {
  const auto address = PathAddress(std::string(107, 'x'), "bind");
  EXPECT_EQ(std::string(Path(address).sun_path), std::string(107, 'x'));
}

void ExpectRefused(const std::string& path) {
  try {
    PathAddress(path, "bind");
    ADD_FAILURE() << path;
  } catch (const ipc::Error& error) {
    EXPECT_EQ(error.code(), std::errc::invalid_argument);
    EXPECT_TRUE(error.text.ends_with("a path has 1 to 107 bytes"));
  }
}

TEST(PathAddress, OfMoreThan107BytesIsRefused) {
  ExpectRefused(std::string(108, 'x'));
  ExpectRefused(std::string(5000, 'x'));
}

TEST(PathAddress, WithoutAFileIsRefused) {
  ExpectRefused("");
  ExpectRefused(std::string("\0abstract", 9));
}

TEST(TcpAddresses, AreOfAHostAndAPort) {
  const auto address = TcpAddresses("127.0.0.1:65535", 0);
  EXPECT_EQ(address->ai_family, AF_INET);
  EXPECT_EQ(address->ai_next, nullptr);
  const auto& found = *reinterpret_cast<const sockaddr_in*>(address->ai_addr);
  EXPECT_EQ(address->ai_addrlen, sizeof(found));
  EXPECT_EQ(ntohs(found.sin_port), 65535);
  EXPECT_EQ(ntohl(found.sin_addr.s_addr), INADDR_LOOPBACK);
}

TEST(TcpAddresses, OfVersion6AreInBrackets) {
  const auto address = TcpAddresses("[::1]:80", 0);
  const auto& found = *reinterpret_cast<const sockaddr_in6*>(address->ai_addr);
  EXPECT_EQ(address->ai_addrlen, sizeof(found));
  EXPECT_EQ(ntohs(found.sin6_port), 80);
  EXPECT_TRUE(IN6_IS_ADDR_LOOPBACK(&found.sin6_addr));
}

TEST(TcpAddresses, WithoutAPortAreWrongUsage) {
  for (const char* name :
       {"", "7000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1: 1",
        "127.0.0.1:1x", "127.0.0.1:-1", "127.0.0.1:-0", "127.0.0.1:65536",
        "127.0.0.1:70000", "[::1]"}) {
    EXPECT_THROW(TcpAddresses(name, 0), ipc::UsageError) << name;
  }
}

TEST(TcpAddresses, HaveALeastPort) {
  EXPECT_THROW(TcpAddresses("127.0.0.1:0", 1), ipc::UsageError);
  EXPECT_THROW(TcpAddresses("127.0.0.1:00", 1), ipc::UsageError);
  EXPECT_NO_THROW(TcpAddresses("127.0.0.1:0", 0));
  EXPECT_NO_THROW(TcpAddresses("127.0.0.1:1", 1));
}

TEST(TcpAddresses, WithoutAHostAreRefused) {
  // None of these may become "every interface", nor be asked of a server.
  for (const char* name : {":1", "[]:1", "[::1:1", "::1]:1", "a..b:1"}) {
    EXPECT_THROW(TcpAddresses(name, 0), ipc::Error) << name;
  }
}

TEST(PlaceOption, IsAPathOrTcp) {
  const auto place = [](const std::string& path, const std::string& tcp) {
    return ipc::PlaceOption({{"unix", path}, {"tcp", tcp}}, "bind", 0);
  };
  EXPECT_EQ(place(ipc::kPath, ipc::kNotGiven).first, ipc::kPath);
  EXPECT_EQ(place("/x", ipc::kNotGiven).first, "/x");
  EXPECT_EQ(place("/x", ipc::kNotGiven).second->ai_family, AF_UNIX);
  EXPECT_EQ(place(ipc::kPath, "127.0.0.1:7").first, "127.0.0.1:7");
  EXPECT_EQ(place(ipc::kPath, "127.0.0.1:7").second->ai_family, AF_INET);
  EXPECT_THROW(place("/x", "127.0.0.1:7"), ipc::UsageError);
}

class UnlinkBoth : public testing::Test {
 protected:
  void MakeFile(const std::string& name) const {
    const ipc::UniqueFd fd(::open(name.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC,
                                  0600 | ipc::kOurs));
    EXPECT_TRUE(fd);
  }
  void MakeSocket(mode_t mode) const {
    const auto address = PathAddress(path_, "bind");
    const ipc::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ::fchmod(fd.get(), mode);
    EXPECT_EQ(::bind(fd.get(), address->ai_addr, address->ai_addrlen), 0);
  }
  // What is left.
  std::vector<std::string> Unlink() const {
    MakeFile(lock_);
    EXPECT_EQ(ipc::UnlinkBoth(lock_.c_str()), 0);
    return directory_.Names();
  }

  const ipc_testing::TemporaryDirectory directory_;
  const std::string path_ = directory_ / "socket";
  const std::string lock_ = path_ + ".lock";
  const std::vector<std::string> nothing_{};
  const std::vector<std::string> path_only_{"socket"};
};

TEST_F(UnlinkBoth, RemovesASocketWithTheMark) {
  MakeSocket(0600 | ipc::kOurs);
  EXPECT_EQ(Unlink(), nothing_);
}

TEST_F(UnlinkBoth, RemovesTheLockAlone) { EXPECT_EQ(Unlink(), nothing_); }

TEST_F(UnlinkBoth, LeavesASocketWithoutTheMark) {
  MakeSocket(0600);
  EXPECT_EQ(Unlink(), path_only_);
}

TEST_F(UnlinkBoth, LeavesAFileWithTheMark) {
  MakeFile(path_);
  EXPECT_EQ(Unlink(), path_only_);
}

TEST_F(UnlinkBoth, LeavesAnotherUsersSocketWithTheMark) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a socket away";
  MakeSocket(0600 | ipc::kOurs);
  ASSERT_EQ(::lchown(path_.c_str(), 65534, 65534), 0);
  EXPECT_EQ(Unlink(), path_only_);
}

}  // namespace
