"""Repository rules for Debian's Bazel 4, which WORKSPACE alone loads: nothing is downloaded."""

_RULES_CC = "/usr/share/bazel/rules/cc"

def _debian_rules_cc_impl(ctx):
    if not ctx.path(_RULES_CC).exists:
        fail("'{}' is missing: apt-get install bazel-rules-cc".format(_RULES_CC))
    copied = ctx.execute(["cp", "-R", _RULES_CC + "/cc", "."])
    if copied.return_code:
        fail(copied.stderr)

    # These two load use_cpp_toolchain(), which is newer than Bazel 4. It returns the list put in its place.
    for name in ["cc_flags_supplier.bzl", "compiler_flag.bzl"]:
        path = "cc/private/rules_impl/" + name
        mended = ctx.read(path).replace(', "use_cpp_toolchain")', ")").replace(
            "use_cpp_toolchain()",
            '["@bazel_tools//tools/cpp:toolchain_type"]',
        )
        ctx.file(path, mended, executable = False)

debian_rules_cc = repository_rule(
    implementation = _debian_rules_cc_impl,
    doc = "The package bazel-rules-cc, mended to load in the Bazel of the same Debian.",
    local = True,
)

def _inline_repository_impl(ctx):
    for path, content in ctx.attr.files.items():
        ctx.file(path, content, executable = path.endswith(".sh"))

inline_repository = repository_rule(
    implementation = _inline_repository_impl,
    doc = "A repository of a few lines: stands in for rules that Bazel 4 has built in, or asks for and never uses.",
    attrs = {"files": attr.string_dict(doc = "Content by path.", mandatory = True)},
)
