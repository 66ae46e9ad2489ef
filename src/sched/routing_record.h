#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace gimbal::sched {

// Which experts the router chose for every row that ran: what `serve --record-routing FILE` writes,
// and `simulate` reads.
//
// All numbers are little-endian, side by side:
//   header  "GIMBALRT", format version u16, model hash u64, layers u16, experts u16, k u16
//   row     request u64, position u32, source u16, layer u16, k expert ids u16
// A file may end after any row.

inline constexpr std::uint16_t kRoutingRecordVersion = 1;

struct RoutingRecordHeader {
  std::uint64_t model_hash = 0;  // of the model that routed
  int layers = 1;                // of the model, with those that have no experts; [1, 65 535]
  int experts = 1;               // of a layer; [1, 65 535]
  int k = 1;                     // choices of a row; [1, experts]

  bool operator==(const RoutingRecordHeader&) const = default;
};

// One row of one layer. The experts in the order of the router's weights; each once.
struct RoutingRow {
  RequestId request;
  std::uint32_t position = 0;  // in the sequence
  Rank source;                 // [0, 65 535]
  LayerIndex layer;
  std::vector<std::uint16_t> experts;  // [k]

  bool operator==(const RoutingRow&) const = default;
};

// Writes a record. What is written reaches the stream in chunks and at the end. One thread.
class RoutingRecordWriter {
 public:
  // Requires: the header's ranges. Nobody else writes to the stream, which outlives the writer.
  RoutingRecordWriter(std::ostream& out, const RoutingRecordHeader& header);
  // Flushes; whether the stream failed is for its owner to ask.
  ~RoutingRecordWriter();
  RoutingRecordWriter(const RoutingRecordWriter&) = delete;
  RoutingRecordWriter& operator=(const RoutingRecordWriter&) = delete;

  // Requires: `experts` are k ids as the router writes them, in range; layer and source in range.
  void add(RequestId request, std::uint32_t position, Rank source, LayerIndex layer,
           std::span<const std::int32_t> experts);
  void flush();

  [[nodiscard]] std::uint64_t rows() const { return rows_; }

 private:
  std::ostream& out_;
  RoutingRecordHeader header_;
  std::string buffer_;
  std::uint64_t rows_ = 0;
};

// Reads a record row by row; memory does not depend on its length. One thread.
class RoutingRecordReader {
 public:
  // Reads the header. kInvalidArgument names the field and its value. The stream outlives the
  // reader.
  [[nodiscard]] static Result<RoutingRecordReader> open(std::istream& in);

  // The next row into `row`; false: the end. kInvalidArgument says the row's number, from 0, the
  // field and its value; kIo: the stream failed. After an error there is nothing more to read.
  [[nodiscard]] Result<bool> next(RoutingRow& row);

  [[nodiscard]] const RoutingRecordHeader& header() const { return header_; }
  [[nodiscard]] std::uint64_t rows() const { return rows_; }  // read so far

 private:
  RoutingRecordReader(std::istream& in, const RoutingRecordHeader& header);
  [[nodiscard]] Error wrong(const char* field, const std::string& what) const;

  std::istream* in_;
  RoutingRecordHeader header_;
  std::string buffer_;  // one row
  std::uint64_t rows_ = 0;
};

}  // namespace gimbal::sched
