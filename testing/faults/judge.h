// What has to hold, whatever is done to a program: it doesn't hang, doesn't
// lie, and leaves nothing behind.
#pragma once

#include <string>

#include "testing/faults/calls.h"
#include "testing/faults/mechanisms.h"
#include "testing/faults/pair_run.h"

namespace ipc_testing {

// What is wrong with a run in which `fault` was done to the target, or "".
// `fault` is null where nothing is done.
std::string Judge(const Scenario& scenario, const Fault* fault,
                  const Outcome& outcome);

}  // namespace ipc_testing
