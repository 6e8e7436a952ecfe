// A team of threads: each piece of work is done once, by a member that may have it, and errors arrive.
#include "thread_team.h"

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

namespace {

using torchreel::ThreadTeam;

void test_pieces(int64_t threads, int64_t first, int64_t count, int64_t size, bool apart) {
  ThreadTeam team(threads);
  team.set_apart(apart);
  std::string name = std::to_string(threads) + " threads, [" + std::to_string(first) + ", " +
                     std::to_string(count) + ") by " + std::to_string(size);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::atomic<int>> done(count);
    std::atomic<bool> fits = true;
    team.run(first, count, size, [&](int64_t begin, int64_t end) {
      if (end - begin > size || (begin - first) % size || ThreadTeam::member() >= std::min(threads, count))
        fits = false;
      for (int64_t i = begin; i < end; ++i) ++done[i];
    });
    for (int64_t i = 0; i < count; ++i) check(done[i] == (i >= first), name + ": each number once");
    check(fits, name + ": pieces of this size, to the first members");
  }
}

// While the owner has its piece, the others do all else: nobody waits until its own part comes.
void test_free_members_take_all() {
  ThreadTeam team(2);
  std::atomic<int> done = 0;
  team.run(0, 9, 1, [&](int64_t, int64_t) {
    ++done;
    if (ThreadTeam::member() == 0)
      while (done < 9) std::this_thread::yield();
  });
  check(done == 9, "the free member takes what is left");
}

void test_errors() {
  ThreadTeam team(3);
  for (int64_t thrower = 0; thrower < 8; ++thrower) {
    std::string message;
    try {
      team.run(0, 8, 1, [&](int64_t begin, int64_t) {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
        if (begin == thrower) throw std::runtime_error("piece " + std::to_string(begin));
      });
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    check(message == "piece " + std::to_string(thrower), "an error in any piece arrives: " + message);
  }
  std::atomic<int> done = 0;
  team.run(0, 8, 1, [&](int64_t, int64_t) { ++done; });
  check(done == 8, "after an error the team works on");
}

void test_members() {
  ThreadTeam team(4);
  check(team.threads() == 4, "the owner counts");
  check(ThreadTeam::member() == 0, "the owner is member 0");
}

}  // namespace

int main() {
  for (bool apart : {false, true}) {
    test_pieces(2, 0, 16, 1, apart);
    test_pieces(5, 3, 100, 7, apart);
    test_pieces(8, 1, 3, 1, apart);
    test_pieces(1, 0, 10, 4, apart);
  }
  test_free_members_take_all();
  test_errors();
  test_members();
}
