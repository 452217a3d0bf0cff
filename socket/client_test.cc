// The client: what goes to a server and comes back, and what happens if it does
// not.
#include <sys/stat.h>

#include <filesystem>

#include "socket/test_server.h"

namespace {

namespace fs = std::filesystem;

using ipc_testing::Accept;
using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::ExpectError;
using ipc_testing::Killed;
using ipc_testing::kLittle;
using ipc_testing::Place;
using ipc_testing::Program;
using ipc_testing::RandomBytes;
using ipc_testing::Receive;
using ipc_testing::Server;
using ipc_testing::TimeUsed;
using ipc_testing::Words;
using testing::IsEmpty;

// --- With the server ---------------------------------------------------------

class Client : public ipc_testing::EitherDomain {};
INSTANTIATE_TEST_SUITE_P(, Client, ipc_testing::BothDomains(),
                         ipc_testing::NameOf);

TEST_P(Client, GetsItsInputBack) {
  const Server server(GetParam());
  for (const std::size_t size :
       {0U, 1U, 99U, 100U, 101U, 4096U, 65536U, 65537U, 5'000'000U}) {
    ChildProcess client(server.Command("CLIENT", {"-"}), RandomBytes(size));
    EXPECT_EQ(client.Wait(), Exited(0)) << size;
    EXPECT_TRUE(client.Out() == RandomBytes(size)) << size;
    EXPECT_EQ(client.Err(), "");
  }
}

TEST_P(Client, GetsItsInputBackThroughSmallBuffers) {
  // Sends are short, and one end or both soon have no room for more.
  for (const auto& [server_program, client_program] :
       {std::pair("SMALL_SERVER", "CLIENT"),
        std::pair("SERVER", "SMALL_CLIENT"),
        std::pair("SMALL_SERVER", "SMALL_CLIENT")}) {
    const Place place(GetParam());
    ChildProcess server(place.Command(server_program));
    server.AwaitErr("listening");
    ChildProcess client(place.Command(client_program, {"-"}),
                        RandomBytes(1'000'000));
    EXPECT_EQ(client.Wait(), Exited(0)) << client.Err();
    EXPECT_TRUE(client.Out() == RandomBytes(1'000'000));
  }
}

TEST_P(Client, GetsItsMessageBackAndANewline) {
  const Server server(GetParam());
  const std::string longest(100'000, 'x');
  for (const std::string message : {"", "one", "two words", longest.c_str()}) {
    ChildProcess client(server.Command("CLIENT", {message}));
    EXPECT_EQ(client.Wait(), Exited(0));
    EXPECT_EQ(client.Out(), message + "\n");
  }
}

TEST_P(Client, SaysHelloWorld) {
  const Server server(GetParam());
  ChildProcess client(server.Command("CLIENT"));
  EXPECT_EQ(client.Wait(), Exited(0));
  EXPECT_EQ(client.Out(), "Hello World\n");
}

TEST_P(Client, GetsAnswersWhileItsInputGoesOn) {
  const Server server(GetParam());
  ChildProcess client(server.Command("CLIENT", {"-"}), std::nullopt);
  client.Send("one");
  client.AwaitOut("one");
  client.Send("two");
  client.AwaitOut("onetwo");
  client.CloseInput();
  EXPECT_EQ(client.Wait(), Exited(0));
}

TEST_P(Client, MayStartFirst) {
  const Place place(GetParam());
  ChildProcess client(place.Command("CLIENT"));
  client.AwaitErr("client: waiting for a server on '" + place.name + "'\n");
  ChildProcess server(place.Command("SERVER"));
  EXPECT_EQ(client.Wait(), Exited(0));
  EXPECT_EQ(client.Out(), "Hello World\n");
}

TEST(ClientAtAPath, WaitsAtAStalePath) {
  Server dead("unix");
  dead.process.Signal(SIGKILL);
  dead.process.Wait();
  ChildProcess client(dead.Command("CLIENT"));
  client.AwaitErr("waiting for a server");
  ChildProcess server(dead.Command("SERVER"));
  EXPECT_EQ(client.Wait(), Exited(0));
  EXPECT_EQ(client.Out(), "Hello World\n");
}

TEST_P(Client, NoticesTheServersDeathWhileItsInputIsSilent) {
  Server server(GetParam());
  ChildProcess client(server.Command("CLIENT", {"-"}), std::nullopt);
  client.Send("one");
  client.AwaitOut("one");
  server.process.Signal(SIGKILL);
  ExpectError(client, "client: recv '" + server.name + "': Connection reset");
}

TEST_P(Client, NoticesTheServersDeathInTheMiddle) {
  Server server(GetParam());
  ChildProcess client(server.Command("CLIENT", {"-"}), "", [] {
    ::dup2(::open("/dev/zero", O_RDONLY), STDIN_FILENO);
  });
  client.AwaitOut(std::string(100'000, '\0'));
  server.process.Signal(SIGKILL);
  ExpectError(client, "client: ");
}

TEST_P(Client, ReportsAnOutputThatTakesNothing) {
  const Server server(GetParam());
  for (const auto& [in_child, reason] : ipc_testing::FailingOutputs()) {
    ChildProcess client(server.Command("CLIENT"), "", in_child);
    ExpectError(client,
                std::string("client: write 'standard output': ") + reason);
  }
}

TEST_P(Client, ReportsAClosedInput) {
  const Server server(GetParam());
  ChildProcess client(server.Command("CLIENT", {"-"}), "",
                      [] { ::close(STDIN_FILENO); });
  ExpectError(client, "client: read 'standard input': Bad file descriptor");
}

// --- With a bad server -------------------------------------------------------

// A client, and the server's end of its connection.
struct BadServer : Place {
  explicit BadServer(const std::string& domain, const Words& arguments = {},
                     const std::optional<std::string>& input = "")
      : Place(domain), listener(Listen()) {
    process.emplace(Command("CLIENT", arguments), input);
    client = Accept(listener);
  }
  void Close() { client = ipc::UniqueFd(); }
  void Send(const std::string& bytes) const {
    EXPECT_EQ(::send(client.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void ExpectFailure(const std::string& call, const std::string& reason) {
    ExpectError(*process, "client: " + call + " '" + name + "': " + reason);
  }

  ipc::UniqueFd listener;
  ipc::UniqueFd client;
  std::optional<ChildProcess> process;
};

class ClientOfABadServer : public ipc_testing::EitherDomain {};
INSTANTIATE_TEST_SUITE_P(, ClientOfABadServer, ipc_testing::BothDomains(),
                         ipc_testing::NameOf);

TEST_P(ClientOfABadServer, NoticesThatItCloses) {
  BadServer server(GetParam(), {"-"}, std::nullopt);
  server.Close();
  server.ExpectFailure("recv", "Connection reset");
}

TEST_P(ClientOfABadServer, NoticesThatItClosesWithoutAReply) {
  BadServer server(GetParam());
  EXPECT_EQ(Receive(server.client.get()), "Hello World\n");
  server.Close();
  server.ExpectFailure("recv", "Connection reset");
}

TEST_P(ClientOfABadServer, NoticesThatTooLittleComesBack) {
  BadServer server(GetParam());
  EXPECT_EQ(Receive(server.client.get()), "Hello World\n");
  server.Send("Hello World");
  server.Close();
  server.ExpectFailure("recv", "Connection reset");
  EXPECT_EQ(server.process->Out(), "Hello World");
}

TEST_P(ClientOfABadServer, NoticesThatOtherBytesComeBack) {
  BadServer server(GetParam());
  EXPECT_EQ(Receive(server.client.get()), "Hello World\n");
  server.Send("Hello Wurld\n");
  server.ExpectFailure("recv", "Bad message; it is not what was sent");
}

TEST_P(ClientOfABadServer, NoticesBytesThatItHasNotSent) {
  BadServer server(GetParam(), {"-"}, std::nullopt);
  server.Send("x");
  server.ExpectFailure("recv", "Bad message; it is not what was sent");
}

TEST_P(ClientOfABadServer, NoticesBytesAfterTheReply) {
  BadServer server(GetParam());
  EXPECT_EQ(Receive(server.client.get()), "Hello World\n");
  server.Send("Hello World\n");
  server.process->AwaitOut("Hello World\n");
  server.Send("x");
  server.ExpectFailure("recv", "Bad message; it is not what was sent");
}

TEST_P(ClientOfABadServer, WaitsNoLongerThanItsTimeout) {
  BadServer silent(GetParam(), {"--timeout", "0.2"});
  silent.ExpectFailure("poll", "Connection timed out; waited for the reply");
  // One that takes nothing, either.
  BadServer deaf(GetParam(), {"--timeout", "0.2", "-"}, RandomBytes(5'000'000));
  deaf.ExpectFailure("poll", "Connection timed out; waited for the reply");
}

TEST_P(ClientOfABadServer, DoesNotWaitForInputWithTheTimeout) {
  BadServer server(GetParam(), {"--timeout", "0.2", "-"}, std::nullopt);
  ipc::Poll({}, ipc::Seconds(0.4));
  EXPECT_FALSE(server.process->HasEnded());
}

TEST_P(ClientOfABadServer, TakesLittleOfItsInputInAdvance) {
  // From one that reads all, and sends nothing back.
  BadServer server(GetParam(), {"-"}, std::string(5'000'000, 'x'));
  std::size_t got = 0;
  pollfd ready{server.client.get(), POLLIN, 0};
  while (ipc::Poll({&ready, 1}, ipc::Seconds(0.3))) {
    const std::string some = Receive(server.client.get());
    if (some.empty()) break;
    got += some.size();
  }
  EXPECT_GT(got, 0U);
  EXPECT_LE(got, 2U * 65536);
}

TEST_P(ClientOfABadServer, TakesARepliesPieces) {
  BadServer server(GetParam());
  EXPECT_EQ(Receive(server.client.get()), "Hello World\n");
  std::string sent;
  for (const char byte : std::string("Hello World\n")) {
    server.Send({byte});
    server.process->AwaitOut(sent += byte);
  }
  server.Close();
  EXPECT_EQ(server.process->Wait(), Exited(0));
}

TEST_P(ClientOfABadServer, MayBeAnsweredAfterItsEnd) {
  // As `sort` would: it is half-closed before the reply comes.
  BadServer server(GetParam(), {"-"}, RandomBytes(60'000));
  std::string got;
  for (std::string some; !(some = Receive(server.client.get())).empty();) {
    got += some;
  }
  EXPECT_TRUE(got == RandomBytes(60'000));
  EXPECT_EQ(ipc_testing::Exchange(server.client.get(), got), "");
  server.Close();
  EXPECT_EQ(server.process->Wait(), Exited(0)) << server.process->Err();
  EXPECT_TRUE(server.process->Out() == got);
}

// --- Alone -------------------------------------------------------------------

TEST_P(Client, GivesUpAtItsTimeout) {
  const Place place(GetParam());
  ChildProcess client(place.Command("CLIENT", {"--timeout", "0.2"}));
  ExpectError(client, "client: connect '" + place.name +
                          "': Connection timed out; waited for a server\n");
}

TEST(ClientAtAPath, UsesNoProcessorWhileItWaits) {
  const Place nobody("unix");
  ChildProcess waiting(nobody.Command("CLIENT"));
  waiting.AwaitErr("waiting for a server");
  EXPECT_LT(TimeUsed(waiting), kLittle);
  const BadServer silent("unix");
  EXPECT_EQ(Receive(silent.client.get()), "Hello World\n");
  EXPECT_LT(TimeUsed(*silent.process), kLittle);
}

TEST_P(Client, DiesOfTheSignalThatEndsIt) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    // While it waits for the reply, for its input, and for a server.
    BadServer silent(GetParam());
    EXPECT_EQ(Receive(silent.client.get()), "Hello World\n");
    BadServer idle(GetParam(), {"-"}, std::nullopt);
    idle.process->Send("x");
    EXPECT_EQ(Receive(idle.client.get()), "x");
    const Place nobody("unix");
    ChildProcess waiting(nobody.Command("CLIENT"));
    waiting.AwaitErr("waiting for a server");
    for (ChildProcess* client : {&*silent.process, &*idle.process, &waiting}) {
      client->Signal(signal);
      EXPECT_EQ(client->Wait(), Killed(signal));
    }
    EXPECT_THAT(nobody.directory.Names(), IsEmpty());
  }
}

// --- Where no server can come ------------------------------------------------

// It doesn't wait.
void ExpectRefused(const Place& place, const std::string& reason) {
  ChildProcess client(place.Command("CLIENT"));
  EXPECT_EQ(client.Wait(), Exited(1));
  const std::string directory =
      place.name.substr(0, place.name.rfind('/') + 1) + ".";
  EXPECT_EQ(client.Err(),
            "client: access '" + directory + "': " + reason + "\n");
}

TEST(ClientAtAPath, WaitsForNoServerInAMissingDirectory) {
  Place place("unix");
  place.name = place.directory / "missing/socket";
  ExpectRefused(place, "No such file or directory");
}

TEST(ClientAtAPath, WaitsForNoServerBelowAFile) {
  Place place("unix");
  const ipc::UniqueFd file(
      ::open(place.name.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  place.name += "/socket";
  ExpectRefused(place, "Not a directory");
}

TEST(ClientAtAPath, WaitsForNoServerInALoopOfLinks) {
  Place place("unix");
  fs::create_symlink(place.name, place.name);
  place.name += "/socket";
  ExpectRefused(place, "Too many levels of symbolic links");
}

TEST(ClientAtAPath, WaitsForNoServerInADirectoryThatMayNotBeSearched) {
  Place place("unix");
  const Place program("unix");  // Which another user may run.
  fs::permissions(program.directory.path(), fs::perms(0755));
  const std::string client = program.directory / "client";
  fs::copy_file(Program("CLIENT"), client);
  fs::permissions(client, fs::perms(0755));
  fs::permissions(place.directory.path(), fs::perms(0));
  ChildProcess process({client, "--unix", place.name}, "", [] {
    // Root may search any.
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(125);
  });
  EXPECT_EQ(process.Wait(), Exited(1));
  EXPECT_EQ(process.Err(), "client: access '" + place.directory.path() +
                               "/.': Permission denied\n");
  fs::permissions(place.directory.path(), fs::perms(0700));
}

TEST(ClientAtAPort, WaitsForNoServerAtPort0) {
  Place place("tcp");
  place.name = "127.0.0.1:0";
  ChildProcess client(place.Command("CLIENT"));
  EXPECT_EQ(client.Wait(), Exited(2));
  EXPECT_EQ(client.Err(),
            "client: --tcp '127.0.0.1:0' is not HOST:PORT; see --help\n");
}

TEST(ClientAtAPort, WaitsForNoServerOfAnUnknownHost) {
  Place place("tcp");
  place.name = "a..b:1";
  ChildProcess client(place.Command("CLIENT"));
  ExpectError(client, "client: getaddrinfo 'a..b:1': Cannot assign");
}

// --- Usage -------------------------------------------------------------------

TEST(ClientUsage, WrongIsStatus2) {
  for (const Words& arguments :
       std::vector<Words>{{"one", "two"},
                          {"--no-such-option"},
                          {"--unix"},
                          {"--unix", "/x", "--tcp", "h:1"},
                          {"--tcp", "127.0.0.1"},
                          {"--timeout", "-1"},
                          {"--timeout", "x"}}) {
    Words command{Program("CLIENT")};
    command.insert(command.end(), arguments.begin(), arguments.end());
    ipc_testing::ExpectWrongUsage(command);
  }
}

TEST(ClientUsage, HelpIsStatus0) { ipc_testing::ExpectHelp(Program("CLIENT")); }

}  // namespace
