// Linear layers split over ranks against the serial product in double.
#include "catch.hpp"

#include <cmath>
#include <vector>

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>
#include <tessera/nn/parallel_linear.hpp>

using namespace tessera;

namespace {

constexpr index_t rows = 7, inputs = 37, outputs = 23;

std::vector<float> numbers(index_t n, float phase) {
  std::vector<float> values(static_cast<std::size_t>(n));
  for (index_t i = 0; i < n; ++i) values[static_cast<std::size_t>(i)] = std::sin(phase * static_cast<float>(i + 1));
  return values;
}

const std::vector<float> weight = numbers(outputs * inputs, 0.7F), bias = numbers(outputs, 0.4F);
const std::vector<float> x = numbers(rows * inputs, 0.9F);
const WeightView whole{weight.data(), DType::f32, outputs, inputs, inputs};

double serial(index_t row, index_t output) {
  double sum = 0;
  for (index_t i = 0; i < inputs; ++i)
    sum += static_cast<double>(x[static_cast<std::size_t>(row * inputs + i)]) *
           weight[static_cast<std::size_t>(output * inputs + i)];
  return sum;
}

}  // namespace

TEMPLATE_TEST_CASE("a column-parallel linear on n ranks gives the columns of the serial product", "[nn]", ScalarBackend,
                   XsimdBackend<>) {
  for (const int ranks : {1, 2, 3, 5})
    for (const index_t grain : {1, 8}) {
      const auto widths = InProcess::run(ranks, [&](Communicator comm) {
        const ColumnParallelLinear<TestType> linear(comm, whole, bias.data(), grain);
        const Range mine = linear.outputs();
        std::vector<float> y(static_cast<std::size_t>(rows * mine.size()), NAN);
        Team(2).run([&](Worker& worker) {
          linear(worker, ConstActivations(x.data(), rows, inputs), Activations(y.data(), rows, mine.size()));
        });
        double worst = 0;
        for (index_t r = 0; r < rows; ++r)
          for (index_t c = 0; c < mine.size(); ++c)
            worst =
                std::max(worst, std::abs(y[static_cast<std::size_t>(r * mine.size() + c)] - serial(r, mine.begin + c) -
                                         static_cast<double>(bias[static_cast<std::size_t>(mine.begin + c)])));
        return std::pair(worst, mine.size());
      });
      index_t all = 0;
      for (const auto& [worst, width] : widths) {
        CHECK(worst < 1e-5);
        all += width;
      }
      CHECK(all == outputs);
    }
}

TEMPLATE_TEST_CASE("a row-parallel linear on n ranks equals the serial product, with the same bits everywhere", "[nn]",
                   ScalarBackend, XsimdBackend<>) {
  for (const int ranks : {1, 2, 3, 5}) {
    const auto found = InProcess::run(ranks, [&](Communicator comm) {
      RowParallelLinear<TestType> linear(comm, whole);
      std::vector<float> y(static_cast<std::size_t>(rows * outputs), NAN);
      const ConstActivations mine = ConstActivations(x.data(), rows, inputs).col_range(linear.inputs());
      Team(2).run([&](Worker& worker) { linear(worker, mine, Activations(y.data(), rows, outputs)); });
      return y;
    });
    for (const auto& y : found) CHECK(y == found.front());
    double worst = 0;
    for (index_t r = 0; r < rows; ++r)
      for (index_t c = 0; c < outputs; ++c)
        worst = std::max(worst, std::abs(found.front()[static_cast<std::size_t>(r * outputs + c)] - serial(r, c)));
    CHECK(worst < 1e-5);
  }
}

TEST_CASE("a row-parallel linear refuses rows of y with gaps between them", "[nn]") {
  RowParallelLinear<ScalarBackend> linear(Loopback{}, whole);
  std::vector<float> y(static_cast<std::size_t>(rows * (outputs + 1)));
  CHECK_THROWS_WITH(Team(1).run([&](Worker& worker) {
    linear(worker, ConstActivations(x.data(), rows, inputs), Activations(y.data(), rows, outputs, outputs + 1));
  }),
                    "row-parallel linear: expected rows of y without gaps, found 23 columns at a stride of 24");
}
