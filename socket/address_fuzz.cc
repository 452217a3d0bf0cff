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

#include "testing/fuzzing/fuzz.h"

using ipc::Addresses;
using ipc_testing::Require;

std::vector<std::string> ipc_testing::Seeds() {
  return {
      "t127.0.0.1:7000",
      "t127.0.0.1:-0",
      "v127.0.0.1:0",
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
  const Addresses address = ipc::PathAddress(path, "bind");
  Require(address->ai_family == AF_UNIX && address->ai_next == nullptr,
          "it is one of the Unix domain");
  Require(address->ai_addrlen == sizeof(sockaddr_un), "it has a length");
  const auto* bound = reinterpret_cast<const sockaddr_un*>(address->ai_addr);
  Require(bound->sun_family == AF_UNIX && path == bound->sun_path,
          "the path is in it, and ends");
}

static void CheckTcp(const std::string& text, unsigned least_port) {
  const Addresses addresses = ipc::TcpAddresses(text, least_port);
  const std::string digits = text.substr(text.rfind(':') + 1);
  Require(digits.find_first_not_of("0123456789") == std::string::npos,
          "the port is a number");
  for (const auto* it = addresses.get(); it != nullptr; it = it->ai_next) {
    std::uint16_t port = 0;
    if (it->ai_family == AF_INET) {
      Require(it->ai_addrlen == sizeof(sockaddr_in), "it has a length");
      port = reinterpret_cast<const sockaddr_in*>(it->ai_addr)->sin_port;
    } else {
      Require(it->ai_family == AF_INET6, "it is of the Internet");
      Require(it->ai_addrlen == sizeof(sockaddr_in6), "it has a length");
      port = reinterpret_cast<const sockaddr_in6*>(it->ai_addr)->sin6_port;
    }
    Require(std::stoul(digits) == ntohs(port), "the port is as given");
    Require(ntohs(port) >= least_port, "the port is one that may be");
  }
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  ipc_testing::FuzzInput input(data, size);
  const std::uint8_t kind = input.Byte();
  const std::string text = input.Argument();
  try {
    if ((kind & 1) != 0) {
      CheckUnix(text);
    } else {
      CheckTcp(text, (kind & 2U) >> 1U);
    }
  } catch (const ipc::Error&) {
  } catch (const ipc::UsageError&) {
  }
  return 0;
}
