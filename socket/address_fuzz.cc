// What --unix and --tcp may say.
#include <netdb.h>

// No name is asked for in the network.
static int NumericOnly(const char* host, const char* port, const addrinfo* like,
                       addrinfo** found) {
  addrinfo hints = *like;
  hints.ai_flags |= AI_NUMERICHOST;
  return getaddrinfo(host, port, &hints, found);
}
#define getaddrinfo NumericOnly
#include "socket/address.h"
#undef getaddrinfo

#include <netinet/in.h>

#include "testing/fuzz.h"

using ipc::Address;
using ipc_testing::Require;

std::vector<std::string> ipc_testing::Seeds() {
  return {
      "t127.0.0.1:7000",
      "t[::1]:65535",
      "t::1:0",
      "t[fe80::1%lo]:80",
      "tlocalhost:",
      "t0x7f.1:65536",
      "u/tmp/socket",
      "u" + std::string(107, 'a'),
      "u",
      "u" + std::string(108, 'a'),
  };
}

static void CheckUnix(const std::string& path) {
  const Address address = Address::Unix(path);
  Require(address.IsUnix() && address.name == path, "it is the path");
  Require(address.length <= sizeof(sockaddr_un), "it has a limit");
  const auto* bound = reinterpret_cast<const sockaddr_un*>(address.get());
  Require(bound->sun_path == path, "the path is in it, and ends");
  Require(address.length ==
              offsetof(sockaddr_un, sun_path) + std::strlen(path.c_str()) + 1,
          "its length is the path's");
}

static void CheckTcp(const std::string& text) {
  const Address address = Address::Tcp(text);
  std::uint16_t port = 0;
  if (address.get()->sa_family == AF_INET) {
    Require(address.length == sizeof(sockaddr_in), "it has a length");
    port = reinterpret_cast<const sockaddr_in*>(address.get())->sin_port;
  } else {
    Require(address.get()->sa_family == AF_INET6, "it is of the Internet");
    Require(address.length == sizeof(sockaddr_in6), "it has a length");
    port = reinterpret_cast<const sockaddr_in6*>(address.get())->sin6_port;
  }
  const std::string digits = text.substr(text.rfind(':') + 1);
  Require(digits.find_first_not_of("0123456789") == std::string::npos &&
              std::stoul(digits) == ntohs(port),
          "the port is as given");
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  ipc_testing::FuzzInput input(data, size);
  const bool is_unix = (input.Byte() & 1) != 0;
  const std::string text = input.Argument();
  try {
    if (is_unix) {
      CheckUnix(text);
    } else {
      CheckTcp(text);
    }
  } catch (const os::Error&) {
  } catch (const os::UsageError&) {
  }
  return 0;
}
