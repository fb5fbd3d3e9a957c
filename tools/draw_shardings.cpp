// Draws who holds what on four ranks, from the plans and cache layouts that the library itself uses:
//   build/tools/draw_shardings who_holds_what > docs/who_holds_what.svg
//   build/tools/draw_shardings spread_tokens > docs/guide/spread_tokens.svg
//   build/tools/draw_shardings hybrid > docs/guide/hybrid.svg
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include <tessera/io/presets.hpp>
#include <tessera/policies/hybrid.hpp>
#include <tessera/policies/ulysses.hpp>

using namespace tessera;

namespace {

constexpr index_t ranks = 4;
constexpr index_t prompt = 128;  // tokens of a step, and positions of the cache
constexpr const char* colors[ranks] = {"#0072b2", "#e69f00", "#009e73", "#cc79a7"};  // told apart by the colour-blind

constexpr double margin = 16, label_width = 140, panel_width = 280, panel_gap = 24, bar_height = 26, row_height = 40;
constexpr double cache_height = 112, top = 84;

/// Which ranks hold something: bit r for rank r.
using Holders = unsigned;

/// A bar of what `holders` hold together: one band for each of them.
std::string bar(double x, double y, double w, double h, Holders holders) {
  std::string svg;
  const auto band = h / __builtin_popcount(holders);
  for (index_t r = 0; r < ranks; ++r) {
    if ((holders >> r & 1U) == 0) continue;
    svg += fmt::format(R"(<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" fill="{}"/>)", x, y, w, band,
                       colors[r]);
    if (band >= 16 && w >= 12)
      svg += fmt::format(R"(<text x="{:.2f}" y="{:.2f}" class="rank">{}</text>)", x + w / 2, y + band / 2 + 4, r);
    y += band;
  }
  return svg + "\n";
}

/// n things side by side; holders_of(i) says who holds number i. Neighbours that the same ranks hold are one bar.
template <class HoldersOf>
std::string strip(double x, double y, double h, index_t n, HoldersOf&& holders_of) {
  std::string svg;
  const double unit = panel_width / static_cast<double>(n);
  for (index_t begin = 0, end = 0; begin < n; begin = end) {
    const Holders holders = holders_of(begin);
    while (end < n && holders_of(end) == holders) ++end;
    svg += bar(x + static_cast<double>(begin) * unit, y, static_cast<double>(end - begin) * unit, h, holders);
  }
  return svg;
}

template <class IsHeld>
Holders holders(index_t inner, IsHeld&& is_held) {
  Holders mask = 0;
  for (index_t r = 0; r < ranks; ++r) mask |= is_held(Ranks{r, ranks, {}, inner}) ? 1U << r : 0U;
  return mask;
}

/// One column: what each rank keeps and uses in a step of `rows` tokens under a phase policy, and what it stores.
/// `inner` ranks are neighbours in the inner dimension of a mesh of two.
template <PhasePolicy Phase>
std::string panel(double x, const ModelConfig& config, index_t rows, std::string_view title, std::string_view travels,
                  index_t inner = 1) {
  const auto plan = [&](const Ranks& r) { return Phase::plan(config, r, rows); };
  std::string svg =
      fmt::format(R"(<text x="{}" y="48" class="title">{}</text><text x="{}" y="68">{}</text>)", x, title, x, travels);
  double y = top;
  const auto add = [&](index_t n, auto&& is_held) {
    svg += strip(x, y, bar_height, n,
                 [&](index_t i) { return holders(inner, [&](const Ranks& r) { return is_held(r, i); }); });
    y += row_height;
  };
  add(rows, [&](const Ranks& r, index_t i) { return plan(r).kept.contains(i); });
  add(config.heads, [&](const Ranks& r, index_t i) { return plan(r).slice.q_heads.contains(i); });
  add(config.kv_heads, [&](const Ranks& r, index_t i) { return plan(r).slice.kv_heads.contains(i); });
  add(config.intermediate / ffn_grain,
      [&](const Ranks& r, index_t i) { return plan(r).slice.ffn.contains(i * ffn_grain); });
  add(config.vocab / 64, [&](const Ranks& r, index_t i) { return plan(r).slice.vocab.contains(i * 64); });
  const double head_height = cache_height / static_cast<double>(config.kv_heads);
  for (index_t h = 0; h < config.kv_heads; ++h, y += head_height)
    svg += strip(x, y, head_height, prompt, [&](index_t position) {
      return holders(inner, [&](const Ranks& r) {
        const CacheLayout layout = Phase::layout(config, r);
        return layout.kv_heads.contains(h) && layout.owns(0, position);
      });
    });
  return svg;
}

/// The phase policies that a sharding is made of.
template <class PrefillPolicy, class DecodePolicy>
struct Phases {
  using Prefill = PrefillPolicy;
  using Decode = DecodePolicy;
};
template <class Prefill, class Decode>
Phases<Prefill, Decode> phases_of(const Phased<Prefill, Decode>&);

std::string labels(const ModelConfig& config) {
  const std::string names[] = {"tokens", fmt::format("{} query heads", config.heads),
                               fmt::format("{} KV heads", config.kv_heads),
                               fmt::format("{} FFN columns", config.intermediate), "vocabulary"};
  std::string svg;
  double y = top + bar_height / 2 + 4;
  for (const std::string& name : names) {
    svg += fmt::format(R"(<text x="{}" y="{}">{}</text>)", margin, y, name);
    y += row_height;
  }
  for (const char* line : {"KV cache:", "a row for a head,", "a column for a", "position"}) {
    svg += fmt::format(R"(<text x="{}" y="{}">{}</text>)", margin, y, line);
    y += 18;
  }
  return svg + "\n";
}

std::string legend() {
  std::string svg;
  double x = margin + label_width;
  for (index_t r = 0; r < ranks; ++r, x += 72)
    svg += fmt::format(R"(<rect x="{}" y="14" width="12" height="12" fill="{}"/><text x="{}" y="25">rank {}</text>)", x,
                       colors[r], x + 18, r);
  return svg + fmt::format(R"(<text x="{}" y="25">a bar in four bands: every rank has it</text>)", x + 12) + "\n";
}

template <class Sharding>
using PhasesOf = decltype(phases_of(std::declval<Sharding>()));

using Panels = std::string (*)(const ModelConfig& config, const double (&x)[3]);

std::string who_holds_what(const ModelConfig& config, const double (&x)[3]) {
  using Phases = PhasesOf<Sequence<>>;
  return panel<HeadWise>(x[0], config, prompt, "HeadWise", "travels: two sums of activations a layer") +
         panel<Phases::Prefill>(x[1], config, prompt, "Sequence, prefill", "travels: new keys and values") +
         panel<Phases::Decode>(x[2], config, 1, "Sequence, decode", "travels: q, k, v, softmax states, two sums");
}

std::string spread_tokens(const ModelConfig& config, const double (&x)[3]) {
  using Phases = PhasesOf<Ulysses>;
  return panel<PhasesOf<HeadWiseScattered>::Prefill>(x[0], config, prompt, "HeadWiseScattered, prefill",
                                                     "travels: activations, twice there and back") +
         panel<Phases::Prefill>(x[1], config, prompt, "Ulysses, prefill", "travels: q, k, v to heads, results back") +
         panel<Phases::Decode>(x[2], config, 1, "Ulysses, decode", "travels: two sums of activations a layer");
}

std::string hybrid(const ModelConfig& config, const double (&x)[3]) {
  using Phases = PhasesOf<SequenceOfHeadWise>;
  constexpr index_t inner = 2;
  return panel<Phases::Prefill>(x[0], config, prompt, "Sequence:2 x HeadWise:2, prefill",
                                "travels: keys in pairs 0-2, 1-3, sums in 0-1, 2-3", inner) +
         panel<Phases::Decode>(x[1], config, 1, "the same, decode", "travels: states in pairs 0-2, 1-3, sums over all",
                               inner);
}

struct Picture {
  std::string_view name;
  index_t columns;
  Panels panels;
};
constexpr Picture pictures[] = {
    {"who_holds_what", 3, who_holds_what}, {"spread_tokens", 3, spread_tokens}, {"hybrid", 2, hybrid}};

}  // namespace

int main(int argc, char** argv) {
  const Picture* picture = nullptr;
  for (const Picture& known : pictures)
    if (argc == 2 && known.name == argv[1]) picture = &known;
  if (picture == nullptr) {
    fmt::print(stderr, "usage: draw_shardings who_holds_what | spread_tokens | hybrid\n");
    return 2;
  }
  const ModelConfig config = preset_named("qwen3-0.6b").config();
  const double height = top + 5 * row_height + cache_height + margin;
  const auto columns = static_cast<double>(picture->columns);
  const double width = margin * 2 + label_width + columns * panel_width + (columns - 1) * panel_gap;
  double x[3];
  for (index_t i = 0; i < 3; ++i) x[i] = margin + label_width + static_cast<double>(i) * (panel_width + panel_gap);
  fmt::print(R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}">)"
             "\n<style>text {{ font: 13px sans-serif; fill: #222 }} .title {{ font-weight: bold; font-size: 15px }} "
             ".rank {{ fill: #fff; font-size: 11px; text-anchor: middle }}</style>\n"
             R"(<rect width="{0}" height="{1}" fill="#fff"/>)"
             "\n{2}{3}{4}</svg>\n",
             width, height, legend(), labels(config), picture->panels(config, x));
}
