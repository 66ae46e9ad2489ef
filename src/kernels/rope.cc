#include "kernels/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace gimbal::kernels {
namespace {

// theta^(2i / dim), rounded where transformers rounds.
std::vector<float> wavelengths(const RopeParameters& parameters) {
  std::vector<float> powers(static_cast<std::size_t>(parameters.rotary_dim / 2));
  for (std::size_t i = 0; i < powers.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(parameters.rotary_dim);
    powers[i] = static_cast<float>(std::pow(parameters.rope_theta, static_cast<double>(exponent)));
  }
  return powers;
}

void scale_llama3(const RopeParameters& parameters, std::vector<float>& inverse) {
  const double context = parameters.original_max_position_embeddings;
  GIMBAL_CHECK(context > 0.0 && parameters.high_freq_factor != parameters.low_freq_factor);
  const auto longest = static_cast<float>(context / parameters.low_freq_factor);
  const auto shortest = static_cast<float>(context / parameters.high_freq_factor);
  const auto factor = static_cast<float>(parameters.factor);
  const auto low = static_cast<float>(parameters.low_freq_factor);
  const auto span = static_cast<float>(parameters.high_freq_factor - parameters.low_freq_factor);
  for (float& frequency : inverse) {
    const float wavelength = static_cast<float>(2.0 * std::numbers::pi) / frequency;
    if (wavelength > longest) {
      frequency /= factor;
    } else if (wavelength >= shortest) {
      const float smooth = (static_cast<float>(context) / wavelength - low) / span;
      frequency = (1.0F - smooth) * frequency / factor + smooth * frequency;
    }
  }
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double yarn_attention_factor(const RopeParameters& parameters) {
  if (parameters.attention_factor) return *parameters.attention_factor;
  const double mscale = parameters.mscale.value_or(0.0);
  const double mscale_all_dim = parameters.mscale_all_dim.value_or(0.0);
  if (mscale != 0.0 && mscale_all_dim != 0.0) {
    return yarn_mscale(parameters.factor, mscale) / yarn_mscale(parameters.factor, mscale_all_dim);
  }
  return yarn_mscale(parameters.factor, 1.0);
}

// The dimension whose wavelength turns `rotations` times in the original context.
double yarn_dimension(const RopeParameters& parameters, double rotations) {
  const double turns =
      parameters.original_max_position_embeddings / (rotations * 2.0 * std::numbers::pi);
  return static_cast<double>(parameters.rotary_dim) * std::log(turns) /
         (2.0 * std::log(parameters.rope_theta));
}

std::vector<float> yarn_frequencies(const RopeParameters& parameters) {
  GIMBAL_CHECK(parameters.original_max_position_embeddings > 0.0 && parameters.factor > 0.0);
  double low = yarn_dimension(parameters, parameters.beta_fast);
  double high = yarn_dimension(parameters, parameters.beta_slow);
  if (parameters.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(parameters.rotary_dim - 1));
  if (low == high) high += 0.001;
  std::vector<float> inverse = wavelengths(parameters);
  for (std::size_t i = 0; i < inverse.size(); ++i) {
    const float position = static_cast<float>(i) - static_cast<float>(low);
    const float ramp = std::clamp(position / static_cast<float>(high - low), 0.0F, 1.0F);
    const float extrapolated = 1.0F / inverse[i];
    const float interpolated = 1.0F / (static_cast<float>(parameters.factor) * inverse[i]);
    const float keep = 1.0F - ramp;
    inverse[i] = interpolated * (1.0F - keep) + extrapolated * keep;
  }
  return inverse;
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeParameters& parameters) {
  GIMBAL_CHECK(parameters.rotary_dim > 0 && parameters.rotary_dim % 2 == 0);
  GIMBAL_CHECK(parameters.rope_theta > 0.0);
  RopeFrequencies frequencies;
  if (parameters.kind == RopeKind::kYarn) {
    frequencies.inverse = yarn_frequencies(parameters);
    frequencies.attention_factor = static_cast<float>(yarn_attention_factor(parameters));
    return frequencies;
  }
  frequencies.inverse = wavelengths(parameters);
  for (float& value : frequencies.inverse)
    value = 1.0F / value;
  if (parameters.kind == RopeKind::kLinear) {
    for (float& value : frequencies.inverse)
      value /= static_cast<float>(parameters.factor);
  } else if (parameters.kind == RopeKind::kLlama3) {
    scale_llama3(parameters, frequencies.inverse);
  }
  return frequencies;
}

RopeTable::RopeTable(const RopeFrequencies& frequencies, std::int64_t max_positions)
    : half_(static_cast<std::int64_t>(frequencies.inverse.size())), max_positions_(max_positions) {
  GIMBAL_CHECK(half_ > 0 && max_positions > 0 && max_positions < (std::int64_t{1} << 24));
  cos_.reserve(static_cast<std::size_t>(half_ * max_positions));
  sin_.reserve(static_cast<std::size_t>(half_ * max_positions));
  for (std::int64_t position = 0; position < max_positions; ++position) {
    for (const float inverse : frequencies.inverse) {
      // The angle is single precision in transformers, too; only its cosine is better here.
      const double angle = static_cast<double>(static_cast<float>(position) * inverse);
      cos_.push_back(static_cast<float>(std::cos(angle) * frequencies.attention_factor));
      sin_.push_back(static_cast<float>(std::sin(angle) * frequencies.attention_factor));
    }
  }
}

}  // namespace gimbal::kernels
