#include "sched/routing_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <istream>
#include <ostream>
#include <string_view>

#include "base/check.h"

namespace gimbal::sched {
namespace {

constexpr std::string_view kMagic = "GIMBALRT";
constexpr std::size_t kHeaderBytes = 8 + 2 + 8 + 3 * 2;
constexpr std::size_t kRowBytes = 8 + 4 + 2 + 2;  // and the experts
constexpr std::size_t kExpertBytes = 2;
constexpr std::size_t kChunk = 1 << 16;
constexpr int kMost = 65'535;

template <class T>
void put(std::string& bytes, T value) {
  std::array<char, sizeof(T)> little{};
  for (std::size_t i = 0; i < sizeof(T); ++i)
    little[i] = static_cast<char>(value >> (8 * i) & 0xff);
  bytes.append(little.data(), little.size());
}

// Takes numbers from the front of bytes.
class Bytes {
 public:
  explicit Bytes(std::string_view bytes) : rest_(bytes) {}

  template <class T>
  T take() {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i)
      value |= std::uint64_t{static_cast<unsigned char>(rest_[i])} << (8 * i);
    rest_.remove_prefix(sizeof(T));
    return static_cast<T>(value);
  }
  std::string_view take(std::size_t count) {
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

 private:
  std::string_view rest_;
};

Error wrong_header(const char* field, const std::string& what) {
  return invalid_argument(fmt::format("routing record: {} {}", field, what), field);
}

}  // namespace

RoutingRecordWriter::RoutingRecordWriter(std::ostream& out, const RoutingRecordHeader& header)
    : out_(out), header_(header) {
  GIMBAL_CHECK(header.layers >= 1 && header.layers <= kMost);
  GIMBAL_CHECK(header.experts >= 1 && header.experts <= kMost);
  GIMBAL_CHECK(header.k >= 1 && header.k <= header.experts);
  buffer_.reserve(kChunk + kRowBytes + kExpertBytes * static_cast<std::size_t>(header.k));
  buffer_ = kMagic;
  put(buffer_, kRoutingRecordVersion);
  put(buffer_, header.model_hash);
  for (const int number : {header.layers, header.experts, header.k})
    put(buffer_, static_cast<std::uint16_t>(number));
}

RoutingRecordWriter::~RoutingRecordWriter() {
  flush();
}

void RoutingRecordWriter::add(RequestId request, std::uint32_t position, Rank source,
                              LayerIndex layer, std::span<const std::int32_t> experts) {
  GIMBAL_CHECK(layer.value() >= 0 && layer.value() < header_.layers);
  GIMBAL_CHECK(source.value() >= 0 && source.value() <= kMost);
  GIMBAL_CHECK(experts.size() == static_cast<std::size_t>(header_.k));
  put(buffer_, request.value());
  put(buffer_, position);
  put(buffer_, static_cast<std::uint16_t>(source.value()));
  put(buffer_, static_cast<std::uint16_t>(layer.value()));
  for (const std::int32_t expert : experts) {
    GIMBAL_DCHECK(expert >= 0 && expert < header_.experts);
    put(buffer_, static_cast<std::uint16_t>(expert));
  }
  ++rows_;
  if (buffer_.size() >= kChunk) flush();
}

void RoutingRecordWriter::flush() {
  out_.write(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
  out_.flush();
  buffer_.clear();
}

RoutingRecordReader::RoutingRecordReader(std::istream& in, const RoutingRecordHeader& header)
    : in_(&in), header_(header) {
  buffer_.resize(kRowBytes + kExpertBytes * static_cast<std::size_t>(header.k));
}

Result<RoutingRecordReader> RoutingRecordReader::open(std::istream& in) {
  std::string text(kHeaderBytes, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return io_error("routing record", EIO);
  const auto got = static_cast<std::size_t>(in.gcount());
  const std::size_t compared = std::min(got, kMagic.size());
  if (got < kMagic.size() || text.compare(0, compared, kMagic) != 0) {
    return wrong_header("magic", "is not that of a routing record");
  }
  if (got < kHeaderBytes) {
    return wrong_header("header", fmt::format("must have {} bytes, has {}", kHeaderBytes, got));
  }
  Bytes bytes(text);
  (void)bytes.take(kMagic.size());
  if (const auto version = bytes.take<std::uint16_t>(); version != kRoutingRecordVersion) {
    return wrong_header("version",
                        fmt::format("must be {}, is {}", kRoutingRecordVersion, version));
  }
  RoutingRecordHeader header;
  header.model_hash = bytes.take<std::uint64_t>();
  header.layers = bytes.take<std::uint16_t>();
  header.experts = bytes.take<std::uint16_t>();
  header.k = bytes.take<std::uint16_t>();
  if (header.layers < 1) return wrong_header("layers", "must be at least 1, is 0");
  if (header.experts < 1) return wrong_header("experts", "must be at least 1, is 0");
  if (header.k < 1 || header.k > header.experts) {
    return wrong_header("k", fmt::format("must be from 1 to {}, is {}", header.experts, header.k));
  }
  return RoutingRecordReader(in, header);
}

Error RoutingRecordReader::wrong(const char* field, const std::string& what) const {
  return invalid_argument(fmt::format("routing record, row {}: {} {}", rows_, field, what), field);
}

Result<bool> RoutingRecordReader::next(RoutingRow& row) {
  in_->read(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
  if (in_->bad()) return io_error("routing record", EIO);
  const auto got = static_cast<std::size_t>(in_->gcount());
  if (got == 0) return false;
  if (got < buffer_.size()) {
    return wrong("row", fmt::format("must have {} bytes, has {}", buffer_.size(), got));
  }
  Bytes bytes(buffer_);
  row.request = RequestId{bytes.take<std::uint64_t>()};
  row.position = bytes.take<std::uint32_t>();
  row.source = Rank{bytes.take<std::uint16_t>()};
  row.layer = LayerIndex{bytes.take<std::uint16_t>()};
  if (row.layer.value() >= header_.layers) {
    return wrong("layer",
                 fmt::format("must be from 0 to {}, is {}", header_.layers - 1, row.layer.value()));
  }
  row.experts.clear();
  for (int i = 0; i < header_.k; ++i) {
    const auto expert = bytes.take<std::uint16_t>();
    if (expert >= header_.experts) {
      return wrong("expert",
                   fmt::format("must be from 0 to {}, is {}", header_.experts - 1, expert));
    }
    if (std::find(row.experts.begin(), row.experts.end(), expert) != row.experts.end()) {
      return wrong("expert", fmt::format("must be given once, is given twice: {}", expert));
    }
    row.experts.push_back(expert);
  }
  ++rows_;
  return true;
}

}  // namespace gimbal::sched
