// From a picture to its label map, whichever runtime holds the network.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "classes.h"
#include "picture.h"

// What a network makes of a picture: scores of each class, or labels (channels = 0).
struct Output {
  int height = 0, width = 0, channels = 0;
  std::vector<float> values;  // height x width x channels scores, or height x width labels
};

class Network {
 public:
  virtual ~Network() = default;

  // The size of its input; 0 for a height and width that it leaves open.
  int height = 0, width = 0, channels = 0;

  // `pixels`: height x width x channels, 0..255 (red, green, blue), rows from the top.
  virtual Output run(const std::vector<float>& pixels, int height, int width) = 0;
};

using LoadNetwork = std::function<std::unique_ptr<Network>(const std::string& path, int threads)>;

// Which of several outputs to show: the first that is not the confidence.
inline size_t pick_output(const std::vector<std::string>& names) {
  size_t i = 0;
  while (i + 1 < names.size() && names[i] == "confidence") ++i;
  return i;
}

// The size (1, h, w, K) of scores or (1, h, w) of labels; no values yet.
inline Output describe_output(const std::vector<int64_t>& shape) {
  if ((shape.size() != 3 && shape.size() != 4) || shape[0] != 1) {
    throw std::runtime_error("The model returns neither scores (1, h, w, K) nor labels (1, h, w).");
  }
  return {int(shape[1]), int(shape[2]), shape.size() == 4 ? int(shape[3]) : 0, {}};
}

// The picture stretched to the network's size.
inline std::vector<float> stretch(const Picture& picture, int height, int width) {
  const Stretch rows(picture.height, picture.width, picture.channels, height, width);
  const size_t step = size_t(width) * picture.channels;
  std::vector<float> pixels(height * step);
  for (int y = 0; y < height; ++y) rows.row(picture.pixels.data(), y, &pixels[y * step]);
  return pixels;
}

// The output stretched back to the picture's size and the best class of each pixel, the first of
// equals. A label counts as a score of 1 for its class.
inline Picture label_map(Output output, int height, int width, int classes) {
  if (classes > 256) {
    throw std::runtime_error("manifest.json names " + std::to_string(classes) +
                             " classes; a label picture of 8 bits holds up to 256.");
  }
  if (output.channels == 0) {
    std::vector<float> scores(output.values.size() * classes);
    for (size_t i = 0; i < output.values.size(); ++i) {
      const int label = int(output.values[i]);
      if (label < 0 || label >= classes) {
        throw std::runtime_error("The model returns label " + std::to_string(label) +
                                 ", manifest.json names " + std::to_string(classes) + " classes.");
      }
      scores[i * classes + size_t(label)] = 1;
    }
    output.values = std::move(scores);
  } else if (output.channels != classes) {
    throw std::runtime_error("The model scores " + std::to_string(output.channels) +
                             " classes, manifest.json names " + std::to_string(classes) + ".");
  }
  const Stretch rows(output.height, output.width, classes, height, width);
  std::vector<float> scores(size_t(width) * classes);
  Picture labels{height, width, 1, std::vector<uint8_t>(size_t(height) * width)};
  for (int y = 0; y < height; ++y) {
    rows.row(output.values.data(), y, scores.data());
    for (int x = 0; x < width; ++x) {
      const auto first = scores.begin() + std::ptrdiff_t(x) * classes;
      const auto best = std::max_element(first, first + classes);
      labels.pixels[size_t(y) * width + x] = uint8_t(best - first);
    }
  }
  return labels;
}

inline Picture paint(const Picture& labels, const Classes& classes) {
  Picture mask{labels.height, labels.width, 3, {}};
  for (const uint8_t label : labels.pixels) {
    const auto& color = classes.colors[label];
    mask.pixels.insert(mask.pixels.end(), color.begin(), color.end());
  }
  return mask;
}

inline std::string in_folder_of(const std::string& path, const std::string& name) {
  const size_t slash = path.find_last_of("/\\");
  return slash == std::string::npos ? name : path.substr(0, slash + 1) + name;
}

struct Options {
  std::string model, image, mask, labels;  // `labels` is `mask` with the ending .pgm
  int threads = 1;
};

inline bool read_options(int count, char** words, Options& options) {
  std::vector<std::string> paths;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word == "--threads" && i + 1 < count) {
      options.threads = std::atoi(words[++i]);
    } else {
      paths.push_back(word);
    }
  }
  const bool complete = paths.size() == 3 && paths[2].size() > 4 &&
                        paths[2].compare(paths[2].size() - 4, 4, ".ppm") == 0;
  if (!complete || options.threads < 1) return false;
  options.model = paths[0], options.image = paths[1], options.mask = paths[2];
  options.labels = options.mask.substr(0, options.mask.size() - 4) + ".pgm";
  return true;
}

inline void segment(const Options& options, const LoadNetwork& load) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  };
  const Classes classes = read_classes(in_folder_of(options.model, "manifest.json"));
  const Picture picture = read_picture(options.image);

  auto start = Clock::now();
  const std::unique_ptr<Network> network = load(options.model, options.threads);
  const double loading = since(start);
  if (picture.channels != network->channels) {
    throw std::runtime_error("The model takes pictures of " + std::to_string(network->channels) +
                             " channels, " + options.image + " has " +
                             std::to_string(picture.channels) + " (3: P6, 1: P5).");
  }
  const int height = network->height ? network->height : picture.height;
  const int width = network->width ? network->width : picture.width;
  const std::vector<float> pixels = stretch(picture, height, width);
  start = Clock::now();
  network->run(pixels, height, width);
  const double first = since(start);
  start = Clock::now();
  Output output = network->run(pixels, height, width);
  const double running = since(start);

  const int count = int(classes.names.size());
  const Picture labels = label_map(std::move(output), picture.height, picture.width, count);
  write_picture(options.labels, labels);
  write_picture(options.mask, paint(labels, classes));

  std::printf("load %.1f ms, first run %.1f ms, run %.1f ms at %d x %d\n", loading, first, running,
              height, width);
  for (int k = 0; k < count; ++k) {
    const auto pixels_of = std::count(labels.pixels.begin(), labels.pixels.end(), k);
    if (pixels_of == 0) continue;
    const double share = 100.0 * double(pixels_of) / double(labels.pixels.size());
    std::printf("%6.2f %%  %s\n", share, classes.names[size_t(k)].c_str());
  }
}

// The whole program. Returns the exit status: 0; 1 if something failed; 2 for a wrong command line.
inline int segment_main(int count, char** words, const LoadNetwork& load) {
  Options options;
  if (!read_options(count, words, options)) {
    std::fprintf(stderr, "usage: %s MODEL IMAGE.ppm OUT.ppm [--threads N]\n", words[0]);
    return 2;
  }
  try {
    segment(options, load);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
