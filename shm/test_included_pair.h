// The pair's programs themselves, for a test that includes them: RunWriter and
// RunReader. What it has put in the place of their calls, by macros, is theirs.
#pragma once

#define kHelp kWriterHelp
#define main WriterMain
#define Run RunWriter
#include "shm/writer.cc"
#undef kHelp
#undef main
#undef Run
#define kHelp kReaderHelp
#define main ReaderMain
#define Run RunReader
#include "shm/reader.cc"
#undef kHelp
#undef main
#undef Run
