// Pictures in the PPM and PGM formats, and bilinear interpolation.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
  int height = 0, width = 0, channels = 0;  // 3 channels: red, green, blue
  std::vector<uint8_t> pixels;              // height x width x channels, rows from the top
};

// Reads a binary PGM (P5, 1 channel) or PPM (P6, 3 channels) file of values 0..255.
inline Picture read_picture(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("Cannot read " + path + ".");
  std::string magic(2, '\0');
  file.read(magic.data(), 2);
  if (magic != "P5" && magic != "P6") {
    throw std::runtime_error(path + " is no binary PPM (P6) or PGM (P5) file.");
  }
  int64_t header[3] = {};  // width, height, largest value
  for (int64_t& number : header) {
    while (std::isspace(file.peek()) || file.peek() == '#') {
      if (file.get() == '#') file.ignore(1 << 16, '\n');
    }
    file >> number;
  }
  file.get();  // the one white space before the pixels
  const auto [width, height, largest] = header;
  if (!file || width < 1 || height < 1 || width > 65535 || height > 65535 || largest != 255) {
    throw std::runtime_error(path + " does not start with its width, height and 255.");
  }
  Picture picture{int(height), int(width), magic == "P6" ? 3 : 1, {}};
  picture.pixels.resize(size_t(height) * width * picture.channels);
  file.read(reinterpret_cast<char*>(picture.pixels.data()),
            std::streamsize(picture.pixels.size()));
  if (!file) throw std::runtime_error(path + " ends before its last pixel.");
  return picture;
}

// Writes a PGM file for 1 channel, a PPM file for 3; no part of it is left where that fails.
inline void write_picture(const std::string& path, const Picture& picture) {
  std::ofstream file(path, std::ios::binary);
  file << (picture.channels == 3 ? "P6" : "P5") << '\n'
       << picture.width << ' ' << picture.height << "\n255\n";
  file.write(reinterpret_cast<const char*>(picture.pixels.data()),
             std::streamsize(picture.pixels.size()));
  file.close();
  if (!file) {
    std::remove(path.c_str());
    throw std::runtime_error("Cannot write " + path + ".");
  }
}

// Bilinear interpolation of a map (height, width, channels) to another size, one row at a time:
// pixel i of n lies at (i + 0.5) N / n - 0.5 among the N of the source.
class Stretch {
 public:
  Stretch(int height, int width, int channels, int new_height, int new_width)
      : width_(width), channels_(channels), rows_(taps(height, new_height)),
        columns_(taps(width, new_width)) {}

  // Row y of the result, new_width x channels numbers.
  template <class T>
  void row(const T* source, int y, float* result) const {
    const Tap& row = rows_[size_t(y)];
    const T* upper = source + size_t(row.first) * width_ * channels_;
    const T* lower = source + size_t(row.second) * width_ * channels_;
    for (const Tap& column : columns_) {
      const size_t left = size_t(column.first) * channels_;
      const size_t right = size_t(column.second) * channels_;
      for (int c = 0; c < channels_; ++c) {
        const float above = upper[left + c] * column.weight + upper[right + c] * column.share;
        const float below = lower[left + c] * column.weight + lower[right + c] * column.share;
        *result++ = above * row.weight + below * row.share;
      }
    }
  }

 private:
  struct Tap {
    int first, second;    // two neighbours in the source
    float weight, share;  // of the first and of the second
  };

  static std::vector<Tap> taps(int length, int new_length) {
    std::vector<Tap> found;
    const double scale = double(length) / new_length;
    for (int i = 0; i < new_length; ++i) {
      const double position = std::clamp((i + 0.5) * scale - 0.5, 0.0, length - 1.0);
      const int first = std::min(int(position), std::max(0, length - 2));
      const double share = position - first;
      found.push_back({first, std::min(first + 1, length - 1), float(1 - share), float(share)});
    }
    return found;
  }

  int width_, channels_;
  std::vector<Tap> rows_, columns_;
};
