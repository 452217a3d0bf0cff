#include "socket/address.h"

#include <gtest/gtest.h>

namespace {

using ipc::Address;

const sockaddr_un& Path(const Address& address) {
  return *reinterpret_cast<const sockaddr_un*>(address.get());
}

TEST(UnixAddress, IsThePathAndItsEndAndNoMore) {
  const auto address = Address::Unix("/tmp/x");
  EXPECT_TRUE(address.IsUnix());
  EXPECT_STREQ(Path(address).sun_path, "/tmp/x");
  EXPECT_EQ(address.length, offsetof(sockaddr_un, sun_path) + sizeof("/tmp/x"));
}

TEST(UnixAddress, HasUpTo107Bytes) {
  const auto address = Address::Unix(std::string(107, 'x'));
  EXPECT_EQ(std::string(Path(address).sun_path), std::string(107, 'x'));
  EXPECT_EQ(address.length, sizeof(sockaddr_un));
}

void ExpectRefused(const std::string& path, std::errc reason) {
  try {
    Address::Unix(path);
    ADD_FAILURE() << path;
  } catch (const os::Error& error) {
    EXPECT_EQ(error.code(), reason);
    if (path.empty() || path.front() != '\0') {
      EXPECT_NE(std::string(error.what()).find("1 to 107 bytes"),
                std::string::npos);
    }
  }
}

TEST(UnixAddress, OfMoreThan107BytesIsRefused) {
  ExpectRefused(std::string(108, 'x'), std::errc::filename_too_long);
  ExpectRefused(std::string(5000, 'x'), std::errc::filename_too_long);
}

TEST(UnixAddress, WithoutAFileIsRefused) {
  ExpectRefused("", std::errc::invalid_argument);
  ExpectRefused(std::string("\0abstract", 9), std::errc::invalid_argument);
}

TEST(TcpAddress, IsAHostAndAPort) {
  const auto address = Address::Tcp("127.0.0.1:65535");
  EXPECT_FALSE(address.IsUnix());
  const auto& found = *reinterpret_cast<const sockaddr_in*>(address.get());
  EXPECT_EQ(address.length, sizeof(found));
  EXPECT_EQ(ntohs(found.sin_port), 65535);
  EXPECT_EQ(ntohl(found.sin_addr.s_addr), INADDR_LOOPBACK);
}

TEST(TcpAddress, OfVersion6IsInBrackets) {
  const auto address = Address::Tcp("[::1]:80");
  const auto& found = *reinterpret_cast<const sockaddr_in6*>(address.get());
  EXPECT_EQ(address.length, sizeof(found));
  EXPECT_EQ(ntohs(found.sin6_port), 80);
  EXPECT_TRUE(IN6_IS_ADDR_LOOPBACK(&found.sin6_addr));
}

TEST(TcpAddress, WithoutAPortIsWrongUsage) {
  for (const char* name : {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x",
                           "127.0.0.1: 1", "127.0.0.1:1x", "127.0.0.1:-1",
                           "127.0.0.1:65536", "127.0.0.1:70000", "[::1]"}) {
    EXPECT_THROW(Address::Tcp(name), os::UsageError) << name;
  }
}

TEST(TcpAddress, WithoutAHostIsRefused) {
  // None of these may become "every interface", nor be asked of a server.
  for (const char* name : {":1", "[]:1", "[::1:1", "::1]:1", "a..b:1"}) {
    EXPECT_THROW(Address::Tcp(name), os::Error) << name;
  }
}

}  // namespace
