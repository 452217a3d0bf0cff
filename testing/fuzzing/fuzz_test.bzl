"""A fuzz target: run by libFuzzer for as long as one likes, and as a test on its seeds alone."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

def fuzz_test(name, deps, program = None):
    """Makes NAME, to be built with --config=fuzz and run as `NAME -max_total_time=60`, and the test NAME_test.

    Args:
      name: the name of the source, without .cc.
      deps: what it includes, //testing/fuzzing aside.
      program: the source of a program, where it includes that.
    """
    if program:
        cc_library(
            name = name + "_program",
            testonly = True,
            textual_hdrs = [program],
        )
        deps = deps + [name + "_program"]
    deps = deps + ["//testing/fuzzing"]
    cc_binary(
        name = name,
        testonly = True,
        srcs = [name + ".cc"],
        linkopts = ["-fsanitize=fuzzer"],
        # g++ has no libFuzzer.
        tags = ["manual"],
        deps = deps,
    )
    cc_test(
        name = name + "_test",
        size = "small",
        srcs = [
            name + ".cc",
            "//testing/fuzzing:corpus_main.cc",
        ],
        deps = deps,
    )
