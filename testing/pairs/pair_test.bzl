"""The test that each pair of samples has: started in either order, what comes out is what went in."""

load("@rules_shell//shell:sh_test.bzl", "sh_test")

def pair_test(name, receiver, sender, naming, received = "", sent = "", message = [], stop = "", binary = False, copy = False):
    """Runs the real binaries, each under a name that nobody else has.

    Args:
      name: the prefix of the tests NAME_receiver_first and so on.
      receiver: the program that gets the message.
      sender: the program that is given the message.
      naming: the option that both take the name with: --name, --path or --unix.
      received: the line that the receiver has to print, "" for nothing, "-" for the sender's input, random bytes.
      sent: the line that the sender has to print, "" for nothing.
      message: the sender's operands, if any.
      stop: what ends the receiver: "quit" a further message, "TERM" the signal, "" nothing: it ends by itself.
      binary: whether NAME_binary sends random bytes: the sender takes standard input, with "-" as the message.
      copy: whether NAME_copy runs the pair as copy_test builds it, by //:exhaustive.
    """
    runs = {
        "receiver_first": ["receiver", received, sent] + message,
        "sender_first": ["sender", received, sent] + message,
    }
    if binary:
        # Whoever prints a line prints these bytes then.
        runs["binary"] = ["receiver", "-" if received else "", "-" if sent else "", "-"]
    env = {
        "NAME_EXISTS": "$(rootpath //testing/pairs:name_exists)",
        "NAMING": naming,
        "STOP": stop,
    }
    for order, args in runs.items():
        sh_test(
            name = name + "_" + order,
            size = "small",
            srcs = ["//testing/pairs:pair_test.sh"],
            args = _quoted(args),
            data = [
                receiver,
                sender,
                "//testing/pairs:name_exists",
            ],
            env = dict(
                env,
                RECEIVER = "$(rootpath {})".format(receiver),
                SENDER = "$(rootpath {})".format(sender),
            ),
        )
    if copy:
        copy_test(
            name = name + "_copy",
            args = ["testing/pairs/pair_test.sh"] + runs["receiver_first"],
            data = [
                "//testing/pairs:name_exists",
                "//testing/pairs:pair_test.sh",
            ],
            env = env,
            receiver = receiver,
            sender = sender,
        )

def copied(name):
    """The samples of a directory and their headers: what its README says to copy is a part of these.

    Args:
      name: "copied".
    """
    native.filegroup(
        name = name,
        srcs = ["README.md"] + native.glob(
            ["*.cc", "*.h"],
            exclude = ["*_test.cc", "*_fuzz.cc", "*_benchmark.cc", "test_*"],
        ),
        visibility = ["//testing:__subpackages__"],
    )
    native.exports_files(
        ["README.md"],
        visibility = ["//testing:__subpackages__"],
    )

def copy_test(name, receiver, sender, args, data = [], env = {}):
    """Runs a command on a pair that each compiler, with each standard, makes of what the README says to copy.

    It takes long, so it is a part of //:exhaustive, where it has to be listed. For `//...`, //testing/pairs:copy_test holds
    what is listed to copy against what is included.

    Args:
      name: of the test.
      receiver: the program that gets the message.
      sender: the other one, or the same where there is only one.
      args: the command, which finds both in PATH.
      data: what the command uses.
      env: its environment.
    """
    sh_test(
        name = name,
        size = "small",
        srcs = ["//testing/pairs:copy_test.sh"],
        args = _quoted([native.package_name() + "/README.md", "--"] + args),
        data = [
            ":copied",
            "//:name.h",
            "//:posix.h",
            "//:program.h",
        ] + data,
        env = dict(
            env,
            EVERY_COMPILER = "1",
            RECEIVER = receiver[1:],
            SENDER = sender[1:],
        ),
        tags = [
            "manual",
            "once",  # It compiles by itself: the same in every configuration.
        ],
        visibility = ["//:__pkg__"],
    )

def _quoted(args):
    return ["'{}'".format(arg) for arg in args]
