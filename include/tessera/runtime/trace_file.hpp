#pragma once
// The traces of all ranks as one file for Perfetto (ui.perfetto.dev) or chrome://tracing, and what they say together.

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/comm/agree.hpp>
#include <tessera/core/trace.hpp>
#include <tessera/io/atomic_file.hpp>

namespace tessera {

namespace detail {

/// The nanosecond that counts as 0: the same moment on all ranks. Ranks of rank 0's machine share its clock, others
/// take the moment when they leave a barrier with it. Collective.
inline std::int64_t common_origin(Communicator& comm) {
  struct Clock {
    char host[64];
    std::int64_t now;
  };
  Clock mine{};
  ::gethostname(mine.host, sizeof mine.host - 1);
  comm.barrier();
  mine.now = trace_clock();
  Clock first = mine;
  comm.broadcast(std::span(&first, 1), 0);
  return std::string_view(first.host) == mine.host ? first.now : mine.now;
}

/// How many bytes every rank has.
inline std::vector<index_t> gather_sizes(Communicator& comm, const std::string& mine) {
  std::vector<index_t> sizes(static_cast<std::size_t>(comm.size()));
  const auto size = static_cast<index_t>(mine.size());
  comm.allgather<index_t>(std::span(&size, 1), std::span(sizes), std::vector<index_t>(sizes.size(), 1));
  return sizes;
}

/// Appends the texts of all ranks to `all` on rank 0, in rank order, with `between` them. Nothing reaches the others:
/// each has its own text alone, however many ranks there are. Collective.
inline void collect_texts(Communicator& comm, const std::string& mine, std::string_view between, std::string& all) {
  const std::vector<index_t> sizes = gather_sizes(comm, mine);
  const bool collects = comm.rank() == 0;
  if (collects) {
    std::size_t total = all.size();
    for (const index_t size : sizes) total += static_cast<std::size_t>(size) + between.size();
    all.reserve(total + between.size());
    all += mine;
  }
  for (int r = 1; r < comm.size(); ++r) {
    const bool sends = comm.rank() == r;
    std::span<char> place;
    if (collects) {
      all += between;
      const std::size_t begin = all.size();
      all.resize(begin + static_cast<std::size_t>(sizes[static_cast<std::size_t>(r)]));
      place = std::span(all).subspan(begin);
    }
    comm.start_exchange<char>(sends ? std::span<const char>(mine) : std::span<const char>(), sends ? 0 : no_rank, place,
                              collects ? r : no_rank)
        .wait();
  }
}

/// Calls act(text) on every rank with the text of each, in rank order: no rank holds more than one of others.
/// Collective.
template <class Act>
void each_text(Communicator& comm, const std::string& mine, Act&& act) {
  const std::vector<index_t> sizes = gather_sizes(comm, mine);
  std::string text;
  for (int r = 0; r < comm.size(); ++r) {
    if (comm.rank() == r) text = mine;
    text.resize(static_cast<std::size_t>(sizes[static_cast<std::size_t>(r)]));
    comm.broadcast(std::span(text), r);
    act(text);
  }
}

/// Nanoseconds, of which none are negative, as the format wants them: microseconds with three digits.
inline std::string as_microseconds(std::int64_t nanoseconds) {
  const std::string rest = std::to_string(nanoseconds % 1000);
  return concat(nanoseconds / 1000, ".", std::string(3 - rest.size(), '0'), rest);
}

inline std::string_view category_of(TraceKind kind) {
  switch (kind) {
    case TraceKind::layer: return "layer";
    case TraceKind::kernel: return "kernel";
    case TraceKind::start: return "start";
    case TraceKind::collective: return "collective";
    case TraceKind::barrier: return "barrier";
  }
  return "?";
}

/// One rank's events as JSON objects, each followed by ",\n" but for the last.
inline std::string events_text(const Trace& trace, int rank, std::int64_t origin) {
  std::string text =
      concat("{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":", rank, ",\"args\":{\"name\":\"rank ", rank, "\"}}");
  for (int t = 0; t < trace.threads(); ++t) {
    const TraceLane& lane = trace.lane(t);
    const std::string place = concat(",\"pid\":", rank, ",\"tid\":", t);
    text += concat(",\n{\"ph\":\"M\",\"name\":\"thread_name\"", place, ",\"args\":{\"name\":\"thread ", t,
                   lane.lost() == 0 ? std::string() : concat(" (", lane.lost(), " events lost)"), "\"}}");
    for (const TraceEvent& event : lane.events()) {
      const TraceName& name = *event.name;
      const std::string_view prefix = name.kind == TraceKind::start ? "start " : "";
      text += concat(",\n{\"ph\":\"X\",\"name\":\"", prefix, name.text, "\",\"cat\":\"", category_of(name.kind), '"',
                     place, ",\"ts\":", as_microseconds(event.begin - origin),
                     ",\"dur\":", as_microseconds(event.end - event.begin));
      if (!name.argument.empty()) text += concat(",\"args\":{\"", name.argument, "\":", event.number, '}');
      text += '}';
    }
  }
  return text;
}

}  // namespace detail

namespace detail {

/// How long after `origin` the first event of any rank began; 0 where there is none. Collective.
inline std::int64_t first_begin(Communicator& comm, const Trace& trace, std::int64_t origin) {
  constexpr index_t never = INT64_MAX;
  index_t mine = never;
  for (int t = 0; t < trace.threads(); ++t)
    for (const TraceEvent& event : trace.lane(t).events()) mine = std::min<index_t>(mine, event.begin - origin);
  std::vector<index_t> all(static_cast<std::size_t>(comm.size()));
  comm.allgather<index_t>(std::span(&mine, 1), std::span(all), std::vector<index_t>(all.size(), 1));
  const index_t first = *std::min_element(all.begin(), all.end());
  return first == never ? 0 : first;
}

}  // namespace detail

/// Writes every rank's trace into one file, a process for each rank and in it a lane for each thread; the first event
/// begins at 0, for Perfetto drops what was before. Collective; where rank 0 cannot write the file, all ranks throw
/// AgreedError.
inline void write_trace(Communicator& comm, const Trace& trace, const std::string& file) {
  std::int64_t origin = detail::common_origin(comm);
  origin += detail::first_begin(comm, trace, origin);
  std::string all = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n";
  detail::collect_texts(comm, detail::events_text(trace, comm.rank(), origin), ",\n", all);
  all += "\n]}\n";
  agree(comm, [&] {
    if (comm.rank() == 0) write_text(file, all);
  });
}

/// Where the time of all threads of all ranks went.
struct TimeSplit {
  double compute = 0;        ///< seconds of a thread in anything that is not one of the others
  double communication = 0;  ///< in operations between ranks, from the moment when the last of them came
  double waiting = 0;        ///< for other threads at a barrier, and for other ranks to come to an operation

  [[nodiscard]] double total() const { return compute + communication + waiting; }
};

/// The mean time split of a thread over `seconds`, of the events that began after `since`. Collective: equal on all
/// ranks. Where ranks are on several machines, their clocks agree to the skew of a barrier only.
inline TimeSplit split_time(Communicator& comm, const Trace& trace, double seconds, std::int64_t since = 0) {
  struct Meeting {
    std::uint64_t group;
    std::int64_t begin;
    std::int64_t end;
  };
  const std::int64_t origin = detail::common_origin(comm);
  std::int64_t starts = 0;
  std::int64_t barriers = 0;
  std::string mine;
  for (int t = 0; t < trace.threads(); ++t)
    for (const TraceEvent& event : trace.lane(t).events()) {
      if (event.begin < since) continue;
      if (event.name->kind == TraceKind::start) starts += event.end - event.begin;
      if (event.name->kind == TraceKind::barrier) barriers += event.end - event.begin;
      if (event.name->kind != TraceKind::collective) continue;
      const Meeting meeting{event.group, event.begin - origin, event.end - origin};
      mine.append(reinterpret_cast<const char*>(&meeting), sizeof meeting);
    }

  // The n-th operation of a group is the same one on all its ranks. Those of groups that this rank is not in are passed
  // over: of many ranks, most are.
  struct Group {
    std::vector<std::int64_t> last_to_come;
    std::size_t count = 0;  // of the operations of a rank
  };
  std::map<std::uint64_t, Group> groups;
  const auto each_of = [&](const std::string& text, auto&& act) {
    for (auto& [id, group] : groups) group.count = 0;
    auto found = groups.end();
    for (std::size_t i = 0; i < text.size(); i += sizeof(Meeting)) {
      Meeting m;
      std::memcpy(&m, text.data() + i, sizeof m);
      if (found == groups.end() || found->first != m.group) found = groups.find(m.group);
      if (found != groups.end()) act(m, found->second, found->second.count++);
    }
  };
  for (std::size_t i = 0; i < mine.size(); i += sizeof(Meeting)) {
    Meeting m;
    std::memcpy(&m, mine.data() + i, sizeof m);
    groups[m.group].last_to_come.push_back(m.begin);
  }
  detail::each_text(comm, mine, [&](const std::string& text) {
    each_of(text, [](const Meeting& m, Group& group, std::size_t n) {
      if (n < group.last_to_come.size()) group.last_to_come[n] = std::max(group.last_to_come[n], m.begin);
    });
  });
  std::int64_t waits = 0;
  std::int64_t moves = 0;
  each_of(mine, [&](const Meeting& m, Group& group, std::size_t n) {
    const std::int64_t all_there = std::clamp(group.last_to_come[n], m.begin, m.end);
    waits += all_there - m.begin;
    moves += m.end - all_there;
  });

  // Sums over ranks, of microseconds so that floats hold them.
  float sums[] = {static_cast<float>(starts + moves) / 1e3F, static_cast<float>(waits + barriers) / 1e3F,
                  static_cast<float>(seconds) * 1e6F * static_cast<float>(trace.threads()),
                  static_cast<float>(trace.threads())};
  comm.allreduce(sums);
  TimeSplit split;
  const double per_thread = 1e6 * sums[3];
  split.communication = sums[0] / per_thread;
  split.waiting = sums[1] / per_thread;
  split.compute = std::max(0.0, sums[2] / per_thread - split.communication - split.waiting);
  return split;
}

}  // namespace tessera
