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
      copy: whether NAME_copy runs the pair built from what the README says to copy, with nothing but compilers.
    """
    runs = {
        "receiver_first": ["receiver", received, sent] + message,
        "sender_first": ["sender", received, sent] + message,
    }
    if binary:
        # Whoever prints a line prints these bytes then.
        runs["binary"] = ["receiver", "-" if received else "", "-" if sent else "", "-"]
    env = {
        "NAME_EXISTS": "$(rootpath //testing:name_exists)",
        "NAMING": naming,
        "STOP": stop,
    }
    for order, args in runs.items():
        sh_test(
            name = name + "_" + order,
            size = "small",
            srcs = ["//testing:pair_test.sh"],
            args = _quoted(args),
            data = [
                receiver,
                sender,
                "//testing:name_exists",
            ],
            env = dict(
                env,
                RECEIVER = "$(rootpath {})".format(receiver),
                SENDER = "$(rootpath {})".format(sender),
            ),
        )
    if copy:
        sh_test(
            name = name + "_copy",
            size = "medium",
            # It compiles by itself: the same in every configuration.
            tags = ["once"],
            srcs = ["//testing:copy_test.sh"],
            args = _quoted([
                native.package_name() + "/README.md",
                "testing/pair_test.sh",
            ] + runs["receiver_first"]),
            # The README's list is a part of these.
            data = native.glob(
                ["*.cc", "*.h"],
                exclude = ["*_test.cc", "*_fuzz.cc", "*_benchmark.cc", "test_*.h"],
            ) + [
                "README.md",
                "//:posix.h",
                "//testing:name_exists",
                "//testing:pair_test.sh",
            ],
            # Found in PATH.
            env = dict(env, RECEIVER = receiver[1:], SENDER = sender[1:]),
        )

def _quoted(args):
    return ["'{}'".format(arg) for arg in args]
