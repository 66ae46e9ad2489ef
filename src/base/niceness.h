#pragma once

namespace gimbal {

// Makes the calling thread nicer than the process's first thread by so much, at most 19 in all; 0
// changes nothing. True: it is so. What the system refuses is best effort: a warning, one a
// process. Thread-safe.
bool be_nicer(int by);

}  // namespace gimbal
