/* How the two sides of the ring sleep and wake each other (ring.h), for spin
 * to try every order of their steps: ring_model_test.sh. spin(1)
 *
 * A writer stores kItems bytes and the end; a reader takes them, waiting for
 * one or for two at a time. Both wait, for bytes and for room. Spin searches for
 * a byte that is lost, and for a wake-up that is lost, which is a deadlock here,
 * as nobody checks again after half a second.
 *
 * The processor's one liberty that matters (x86's, and the least that others
 * take) is a store that others see late, after its process has gone on to load:
 * `late`, a store buffer of one. Whatever else is in this model is in order. */

#define kItems 4
#define kCapacity 3
#define kEnd 5 /* In place of a position: it has ended. */

#define WRITER 0
#define READER 1

byte position[2]; /* As the other side sees it. */
bool asleep[2];
byte epoch[2];
bool waiting[2]; /* In the kernel. */

bool is_late[2]; /* A store to position that only who stored it knows of. */
byte late[2];

bool expedited; /* Or fenced. */

/* What is late arrives, at any time. */
inline Drain(side) {
  if
  :: is_late[side] -> position[side] = late[side]; is_late[side] = false
  :: else
  fi
}

proctype Processor(bit side) {
end:
  do
  :: d_step { is_late[side] -> Drain(side) }
  od
}

inline Wake(me, it) {
  /* Its own stores come first: each of these is atomic, and a barrier. */
#ifdef FLAG_LATE
  d_step { Drain(me); epoch[it] = (epoch[it] + 1) % 8 }
  waiting[it] = false;
  asleep[it] = false
#else
  d_step { Drain(me); was = asleep[it]; asleep[it] = false }
  if
  :: was ->
    d_step { epoch[it] = (epoch[it] + 1) % 8 }
    waiting[it] = false
  :: else
  fi
#endif
}

inline Store(me, it, value) {
  /* One is late at most. */
  d_step { Drain(me); late[me] = value; is_late[me] = true }
#ifndef NO_FENCE
  if
  :: !expedited -> d_step { Drain(me) }
  :: else
  fi;
#endif
  if
  :: asleep[it] -> Wake(me, it)
  :: else
  fi
}

/* `ready` loads position[it]. */
inline Wait(me, it, ready) {
  do
  :: ready -> break
  :: else ->
#ifndef EPOCH_LATE
    seen = epoch[me];
#endif
    d_step { Drain(me); asleep[me] = true }
#ifdef EPOCH_LATE
    seen = epoch[me];
#endif
#ifndef NO_BARRIER
    if
    :: expedited -> d_step { Drain(it) }
    :: else
    fi;
#endif
    if
    :: ready
    :: else ->
      atomic { /* FUTEX_WAIT: compares and goes to sleep as one. */
        if
#ifdef NO_EPOCH
        :: waiting[me] = true
#else
        :: epoch[me] != seen
        :: else -> waiting[me] = true
#endif
        fi
      }
      !waiting[me]
    fi;
    d_step { Drain(me); asleep[me] = false }
  od
}

proctype Writer() {
  byte written = 0;
  byte seen;
  bool was;
  do
  :: written < kItems ->
    Wait(WRITER, READER, written - position[READER] < kCapacity);
    assert(position[READER] <= written);
    written++;
    Store(WRITER, READER, written)
  :: else -> break
  od;
  Store(WRITER, READER, kEnd);
  Wait(WRITER, READER, position[READER] == kEnd)
}

proctype Reader() {
  byte read = 0;
  byte least;
  byte seen;
  bool was;
  do
  :: true ->
    if
    :: least = 1
    :: least = 2
    fi;
    Wait(READER, WRITER,
         position[WRITER] == kEnd || position[WRITER] - read >= least);
    if
    :: read == kItems -> break
    :: else -> read++
    fi;
    assert(read <= position[WRITER]);
progress:
    Store(READER, WRITER, read)
  od;
  assert(read == kItems);
  Store(READER, WRITER, kEnd)
}

init {
  if
  :: expedited = true
  :: expedited = false
  fi;
  atomic {
    run Processor(WRITER);
    run Processor(READER);
    run Writer();
    run Reader()
  }
}
