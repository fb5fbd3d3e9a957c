#include "catch.hpp"

#include <sys/stat.h>
#include <sys/wait.h>

#include <tessera/io/bus_error.hpp>
#include <tessera/io/mapped_file.hpp>
#include "io/temp_folder.hpp"

using namespace tessera;
using test::error_of;

TEST_CASE("a mapped file shows the file's bytes, and moves keep them in place") {
  const test::TempFolder folder;
  test::write_file(folder / "f", "mosaic");
  MappedFile file(folder / "f");
  const std::byte* data = file.data();
  CHECK(file.size() == 6);
  MappedFile moved(std::move(file));
  CHECK(moved.data() == data);
  CHECK(std::string_view(reinterpret_cast<const char*>(moved.data()), 6) == "mosaic");
  test::write_file(folder / "g", "tile");
  file = MappedFile(folder / "g");
  moved = std::move(file);
  CHECK(static_cast<char>(*moved.data()) == 't');
  CHECK(moved.contains(moved.data() + 3));
  CHECK_FALSE(moved.contains(moved.data() + 4));
  moved.populate({0, 4});
  moved.populate({2, 100'000});
  moved.advise_needed({0, 4});
  moved.check_unchanged();
}

TEST_CASE("what cannot be mapped is refused with its path and the reason") {
  const test::TempFolder folder;
  const auto error = [&](const char* name) { return error_of([&] { const MappedFile file(folder / name); }); };
  const auto expected = [&](const char* name, const char* reason) { return concat((folder / name).string(), reason); };
  test::write_file(folder / "empty", "");
  std::filesystem::create_directory(folder / "folder");
  ::mkfifo((folder / "pipe").c_str(), 0600);
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  std::filesystem::create_symlink("loop", folder / "loop");
  CHECK(error("missing") == expected("missing", ": No such file or directory"));
  CHECK(error("empty") == expected("empty", ": the file is empty"));
  CHECK(error("folder") == expected("folder", ": expected a file, found a directory"));
  CHECK(error("pipe") == expected("pipe", ": expected a regular file, found a device, pipe or socket"));
  CHECK(error("dangling") == expected("dangling", ": No such file or directory"));
  CHECK(error("loop").find("loop: Too many levels of symbolic links") != std::string::npos);
  CHECK(error_of([] { const MappedFile file("/dev/zero"); }) ==
        "/dev/zero: expected a regular file, found a device, pipe or socket");
  CHECK(error_of([&] { (void)read_text("/dev/zero", 10); }).find("/dev/zero") == 0);
  test::write_file(folder / "long", "0123456789");
  CHECK(error_of([&] { (void)read_text(folder / "long", 9); }) ==
        expected("long", ": expected at most 9 bytes, found 10"));
}

TEST_CASE("a symbolic link is followed, as a hub cache is made of them") {
  const test::TempFolder folder;
  test::write_file(folder / "blob", "content");
  std::filesystem::create_symlink("blob", folder / "model.safetensors");
  CHECK(MappedFile(folder / "model.safetensors").size() == 7);
}

TEST_CASE("a mapped file that shrinks, grows, is written to, removed or replaced is reported") {
  const test::TempFolder folder;
  const auto path = folder / "f";
  test::write_file(path, std::string(100'000, 'x'));
  {
    const MappedFile file(path);
    std::filesystem::resize_file(path, 10);
    const std::string expected = path.string() + ": expected 100000 bytes, as when it was opened; found 10";
    CHECK(error_of([&] { file.check_unchanged(); }).find(expected) == 0);
    CHECK(error_of([&] { file.populate({0, 100'000}); }).find(expected) == 0);
    char byte = 0;
    CHECK(error_of([&] { file.read(50'000, &byte, 1); }).find(": ended at byte 50000 while it was read") !=
          std::string::npos);
  }
  const MappedFile file(path);
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  CHECK(error_of([&] { file.check_unchanged(); }) == path.string() + ": was written to while in use");
  const MappedFile again(path);
  std::filesystem::rename(path, folder / "g");
  CHECK(error_of([&] { again.check_unchanged(); }) == path.string() + ": was removed while in use");
  test::write_file(path, std::string(10, 'x'));
  CHECK(error_of([&] { again.check_unchanged(); }) == path.string() + ": was replaced by another file while in use");
}

namespace {

struct Ending {
  int status = 0;
  std::string text;  // standard error
};

/// Runs `f` in a process of its own.
template <class F>
Ending run_apart(const test::TempFolder& folder, F&& f) {
  const auto errors = folder / "stderr";
  const pid_t child = ::fork();
  if (child == 0) {
    const int to = ::open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(to, STDERR_FILENO);
    f();
    ::_exit(0);
  }
  Ending ending;
  ::waitpid(child, &ending.status, 0);
  ending.text = test::read_file(errors);
  return ending;
}

}  // namespace

TEST_CASE("with the handler, reading a file that shrank ends the process with one sentence and status 1") {
  const test::TempFolder folder;
  const auto path = folder / "weights";
  test::write_file(path, std::string(100'000, 'x'));
  const Ending ending = run_apart(folder, [&] {
    install_bus_error_handler("rank 1 of 2");
    const MappedFile file(path);
    std::filesystem::resize_file(path, 0);
    [[maybe_unused]] const volatile std::byte lost = file.data()[50'000];
  });
  REQUIRE(WIFEXITED(ending.status));
  CHECK(WEXITSTATUS(ending.status) == 1);
  CHECK(ending.text == "rank 1 of 2: " + path.string() + ": became shorter, or its disk failed, while it was in use\n");
}

TEST_CASE("of processes that share a word one says that the file shrank, and all end with status 1") {
  const test::TempFolder folder;
  const auto path = folder / "weights";
  test::write_file(path, std::string(100'000, 'x'));
  using Word = std::atomic<std::uint32_t>;
  void* memory = ::mmap(nullptr, sizeof(Word), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto* word = new (memory) Word(0);
  const Ending ending = run_apart(folder, [&] {
    const MappedFile file(path);
    std::filesystem::resize_file(path, 0);
    int ended = 0;
    for (const char* speaker : {"rank 0", "rank 1", "rank 2"})
      if (::fork() == 0) {
        install_bus_error_handler(speaker, *word);
        [[maybe_unused]] const volatile std::byte lost = file.data()[50'000];
        ::_exit(0);
      }
    for (int status = 0; ::wait(&status) > 0;) ended += WIFEXITED(status) && WEXITSTATUS(status) == 1 ? 1 : 0;
    ::_exit(10 + ended);
  });
  ::munmap(memory, sizeof(Word));
  REQUIRE(WIFEXITED(ending.status));
  CHECK(WEXITSTATUS(ending.status) == 13);
  CHECK(ending.text.substr(6) == ": " + path.string() + ": became shorter, or its disk failed, while it was in use\n");
}

TEST_CASE("with the handler, a bus error elsewhere ends as it would without") {
  const test::TempFolder folder;
  const auto path = folder / "weights";
  test::write_file(path, std::string(100'000, 'x'));
  const Ending ending = run_apart(folder, [&] {
    ::signal(SIGBUS, SIG_DFL);
    install_bus_error_handler(std::string(500, 'n'));
    const int descriptor = ::open(path.c_str(), O_RDONLY);
    const auto* data = static_cast<const char*>(::mmap(nullptr, 100'000, PROT_READ, MAP_SHARED, descriptor, 0));
    std::filesystem::resize_file(path, 0);
    [[maybe_unused]] const volatile char lost = data[50'000];
  });
  REQUIRE(WIFSIGNALED(ending.status));
  CHECK(WTERMSIG(ending.status) == SIGBUS);
  CHECK(ending.text.empty());
}

TEST_CASE("a mapping is in the table for as long as it lives") {
  const test::TempFolder folder;
  test::write_file(folder / "f", "abc");
  const std::byte* data = nullptr;
  {
    const MappedFile file(folder / "f");
    data = file.data();
    REQUIRE(detail::find_mapping(data) != nullptr);
    CHECK(std::string(detail::find_mapping(data + 2)->path.load()) == (folder / "f").string());
    CHECK(detail::find_mapping(data + 3) == nullptr);
  }
  CHECK(detail::find_mapping(data) == nullptr);
  std::vector<MappedFile> many;
  for (int i = 0; i < 600; ++i) many.emplace_back(folder / "f");  // more than the table has slots
  CHECK(detail::find_mapping(many.front().data()) != nullptr);
  CHECK(detail::find_mapping(many.back().data()) == nullptr);
}
