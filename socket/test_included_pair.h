// The pair's programs themselves, for a test that includes them: RunServer and
// RunClient. What it has put in the place of their calls, by macros, is theirs.
#pragma once

#define kHelp kServerHelp
#define main ServerMain
#define Run RunServer
#include "socket/server.cc"
#undef kHelp
#undef main
#undef Run
#define kHelp kClientHelp
#define main ClientMain
#define Run RunClient
#include "socket/client.cc"
#undef kHelp
#undef main
#undef Run
