#pragma once
// Views of matrices: stored weights on the host, and float32 activations in a backend's memory. Views own
// nothing and check nothing beyond what our own code promises. Plain data.

#include <cstdint>

#include "common/check.h"
#include "workers/engine/tensor/dtype.h"

namespace mirrorsd::engine {

// A stored weight on the host, row-major: rows are outputs, columns inputs. A vector has one row. The
// bytes may lie anywhere (a mapped file) and need not be aligned.
// Units: row_stride in elements
struct HostMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;

  static HostMatrix Of(const void* data, DType dtype, int64_t rows, int64_t cols) {
    return {data, dtype, rows, cols, cols};
  }

  const unsigned char* RowBytes(int64_t row) const {
    return static_cast<const unsigned char*>(data) +
           row * row_stride * static_cast<int64_t>(DTypeBytes(dtype));
  }
  float At(int64_t row, int64_t col) const { return LoadF32(RowBytes(row), dtype, col); }
  int64_t size_bytes() const { return rows * cols * static_cast<int64_t>(DTypeBytes(dtype)); }

  // Rows or columns [begin, end), e.g. one rank's share.
  HostMatrix Rows(int64_t begin, int64_t end) const {
    CHECK(0 <= begin && begin <= end && end <= rows);
    return {RowBytes(begin), dtype, end - begin, cols, row_stride};
  }
  HostMatrix Cols(int64_t begin, int64_t end) const {
    CHECK(0 <= begin && begin <= end && end <= cols);
    return {static_cast<const unsigned char*>(data) + begin * static_cast<int64_t>(DTypeBytes(dtype)),
            dtype, rows, end - begin, row_stride};
  }
};

// Float32 activations, row-major, in the memory of a backend. `data` is an address there: host code
// slices it and hands it on but never reads or writes through it (CopyToHost, CopyToDevice do).
// Units: stride in elements
struct Matrix {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  static Matrix Of(float* data, int64_t rows, int64_t cols) { return {data, rows, cols, cols}; }

  bool empty() const { return rows == 0 || cols == 0; }
  bool contiguous() const { return stride == cols; }
  float* Row(int64_t row) const { return data + row * stride; }

  Matrix Rows(int64_t begin, int64_t end) const {
    CHECK(0 <= begin && begin <= end && end <= rows);
    return {data + begin * stride, end - begin, cols, stride};
  }
  Matrix Cols(int64_t begin, int64_t end) const {
    CHECK(0 <= begin && begin <= end && end <= cols);
    return {data + begin, rows, end - begin, stride};
  }
};

}  // namespace mirrorsd::engine
