// Runs a fuzz target without a fuzzer: on every file of its corpus, then on mutations of them that depend on a seed
// alone.
//
// usage: fuzz_replay_NAME FOLDER [RUNS]     the corpus, then RUNS mutations; PCACHE_FUZZ_SEED, PCACHE_FUZZ_RUNS
//        fuzz_replay_NAME FILE...           these inputs
//
// An input that ends the process is written to a file of the working directory, with a line that says how to run it.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_target.h"
#include "tests/support/environment.h"

// There when a sanitizer is linked in.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t kMaxBytes = 4096;
constexpr unsigned kHangSeconds = 120;

std::string program;
std::string failed_path;
const Bytes* current = nullptr;

void say(const std::string& text) { (void)!write(STDERR_FILENO, text.data(), text.size()); }

// Not all of it is allowed in a signal handler; the process is at its end anyway.
void save_current() {
  const Bytes* const input = current;
  current = nullptr;
  if (input == nullptr) return;
  const int fd = open(failed_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0 || write(fd, input->data(), input->size()) != static_cast<ssize_t>(input->size())) {
    say("cannot write " + failed_path + "\n");
  }
  say("\nTo run this input again: " + program + " " + failed_path + "\n");
}

void on_signal(int number) {
  if (number == SIGALRM) say("an input took longer than " + std::to_string(kHangSeconds) + " s\n");
  save_current();
  signal(number == SIGALRM ? SIGABRT : number, SIG_DFL);
  raise(number == SIGALRM ? SIGABRT : number);
}

void run(const Bytes& input) {
  current = &input;
  alarm(kHangSeconds);
  // Exactly as many bytes as there are, so that a sanitizer sees the first one too many.
  const Bytes exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  alarm(0);
  current = nullptr;
}

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  Bytes bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) {
    say("cannot read " + path.string() + "\n");
    std::exit(2);
  }
  return bytes;
}

class Mutator {
 public:
  Mutator(const std::vector<Bytes>& corpus, std::uint64_t seed) : corpus_(corpus), random_(seed) {}

  Bytes next() {
    Bytes bytes = corpus_.empty() || below(32) == 0 ? random_bytes(1 + below(256)) : corpus_[below(corpus_.size())];
    for (std::size_t changes = 1 + below(6); changes > 0; --changes) change(bytes);
    if (bytes.size() > kMaxBytes) bytes.resize(kMaxBytes);
    return bytes;
  }

 private:
  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }
  std::uint8_t any() { return static_cast<std::uint8_t>(random_()); }

  Bytes random_bytes(std::size_t length) {
    Bytes bytes(length);
    for (std::uint8_t& byte : bytes) byte = any();
    return bytes;
  }
  static void insert(Bytes& into, std::size_t at, const Bytes& what) {
    into.insert(into.begin() + static_cast<std::ptrdiff_t>(at), what.begin(), what.end());
  }
  Bytes piece(const Bytes& of) {
    const std::size_t begin = below(of.size());
    const std::size_t length = below(std::min<std::size_t>(of.size() - begin, 64) + 1);
    const auto from = of.begin() + static_cast<std::ptrdiff_t>(begin);
    return Bytes(from, from + static_cast<std::ptrdiff_t>(length));
  }

  void change(Bytes& bytes) {
    static constexpr std::uint8_t kTelling[] = {0, 1, 0x7f, 0x80, 0xff, '\n', '"', '=', ','};
    const std::size_t at = below(bytes.size());
    switch (bytes.empty() ? 6 : below(9)) {
      case 0:
        bytes[at] ^= static_cast<std::uint8_t>(1U << below(8));
        break;
      case 1:
        bytes[at] = any();
        break;
      case 2:
        bytes[at] = kTelling[below(std::size(kTelling))];
        break;
      case 3:
        bytes[at] = static_cast<std::uint8_t>(bytes[at] + below(9) - 4);
        break;
      case 4: {
        const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(at);
        bytes.erase(begin,
                    begin + static_cast<std::ptrdiff_t>(1 + below(std::min<std::size_t>(bytes.size() - at, 16))));
        break;
      }
      case 5:
        insert(bytes, at, piece(bytes));
        break;
      case 6:
        insert(bytes, at, random_bytes(1 + below(8)));
        break;
      case 7:
        if (!corpus_.empty()) insert(bytes, at, piece(corpus_[below(corpus_.size())]));
        break;
      default: {
        const Bytes copied = piece(bytes);
        std::copy_n(copied.begin(), std::min(copied.size(), bytes.size() - at),
                    bytes.begin() + static_cast<std::ptrdiff_t>(at));
      }
    }
  }

  const std::vector<Bytes>& corpus_;
  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    say("usage: " + std::string(argv[0]) + " FOLDER [RUNS] | FILE...\n");
    return 2;
  }
  program = argv[0];
  failed_path = std::filesystem::path(argv[0]).filename().string() + ".failed";
  for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM}) signal(number, on_signal);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(save_current);

  if (!std::filesystem::is_directory(argv[1])) {
    for (int i = 1; i < argc; ++i) run(read_file(argv[i]));
    std::printf("%d inputs\n", argc - 1);
    return 0;
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<Bytes> corpus;
  for (const auto& file : files) corpus.push_back(read_file(file));
  for (const Bytes& input : corpus) run(input);

  const std::uint64_t seed = pcache::from_environment("PCACHE_FUZZ_SEED", 1);
  const std::uint64_t runs =
      pcache::from_environment("PCACHE_FUZZ_RUNS", argc > 2 ? std::strtoull(argv[2], nullptr, 0) : 1000);
  std::printf("%zu inputs of the corpus; PCACHE_FUZZ_SEED=%llu, PCACHE_FUZZ_RUNS=%llu\n", corpus.size(),
              static_cast<unsigned long long>(seed), static_cast<unsigned long long>(runs));
  std::fflush(stdout);
  Mutator mutator(corpus, seed);
  for (std::uint64_t i = 0; i < runs; ++i) run(mutator.next());
  if (corpus.empty()) say("the corpus is empty\n");
  return corpus.empty() ? 1 : 0;
}
