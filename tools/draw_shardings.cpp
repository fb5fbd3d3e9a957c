// Draws who holds what on four ranks, from the plans and cache layouts that the library itself uses:
//   build/tools/draw_shardings > docs/who_holds_what.svg
#include <string>
#include <utility>

#include <fmt/format.h>

#include <tessera/io/presets.hpp>
#include <tessera/policies/head_wise.hpp>
#include <tessera/policies/sequence.hpp>

using namespace tessera;

namespace {

constexpr index_t ranks = 4;
constexpr index_t prompt = 128;  // tokens of a step, and positions of the cache
constexpr const char* colors[ranks] = {"#0072b2", "#e69f00", "#009e73", "#cc79a7"};  // told apart by the colour-blind

constexpr double margin = 16, label_width = 140, panel_width = 280, panel_gap = 24, bar_height = 26, row_height = 40;
constexpr double cache_height = 112, top = 84;
constexpr double width = margin * 2 + label_width + 3 * panel_width + 2 * panel_gap;

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
Holders holders(IsHeld&& is_held) {
  Holders mask = 0;
  for (index_t r = 0; r < ranks; ++r) mask |= is_held(Ranks{r, ranks}) ? 1U << r : 0U;
  return mask;
}

/// One column: what each rank keeps and uses in a step of `rows` tokens under a phase policy, and what it stores.
template <PhasePolicy Phase>
std::string panel(double x, const ModelConfig& config, index_t rows, std::string_view title, std::string_view travels) {
  const auto plan = [&](const Ranks& r) { return Phase::plan(config, r, rows); };
  std::string svg =
      fmt::format(R"(<text x="{}" y="48" class="title">{}</text><text x="{}" y="68">{}</text>)", x, title, x, travels);
  double y = top;
  const auto add = [&](index_t n, auto&& is_held) {
    svg +=
        strip(x, y, bar_height, n, [&](index_t i) { return holders([&](const Ranks& r) { return is_held(r, i); }); });
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
      return holders([&](const Ranks& r) {
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

}  // namespace

int main() {
  using SequencePhases = decltype(phases_of(std::declval<Sequence<>>()));
  const ModelConfig config = preset_named("qwen3-0.6b").config();
  const double height = top + 5 * row_height + cache_height + margin;
  std::string svg = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}">)"
      "\n<style>text {{ font: 13px sans-serif; fill: #222 }} .title {{ font-weight: bold; font-size: 15px }} "
      ".rank {{ fill: #fff; font-size: 11px; text-anchor: middle }}</style>\n"
      R"(<rect width="{0}" height="{1}" fill="#fff"/>)"
      "\n",
      width, height);
  double x = margin + label_width;
  svg += legend() + labels(config);
  svg += panel<HeadWise>(x, config, prompt, "HeadWise", "travels: two sums of activations a layer");
  x += panel_width + panel_gap;
  svg += panel<SequencePhases::Prefill>(x, config, prompt, "Sequence, prefill", "travels: new keys and values");
  x += panel_width + panel_gap;
  svg += panel<SequencePhases::Decode>(x, config, 1, "Sequence, decode", "travels: q, k, v, softmax states, two sums");
  fmt::print("{}</svg>\n", svg);
}
