// Segments a picture with a .tflite file of keras_seg, in LiteRT.
//
//     segment_litert files/phone/model_int8.tflite photo.ppm mask.ppm --threads 4
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "litert_c.h"
#include "segment.h"

namespace {

void check(LiteRtStatus status, const std::string& what) {
  if (status == 0) return;
  throw std::runtime_error("LiteRT cannot " + what + " (status " + std::to_string(status) + ").");
}

// Something of LiteRT's that is destroyed with this.
template <class Handle, void (*destroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  ~Owned() {
    if (handle_) destroy(handle_);
  }
  Handle get() const { return handle_; }
  Handle* out() { return &handle_; }

 private:
  Handle handle_ = nullptr;
};

struct Tensor {
  LiteRtRankedTensorType type{};
  LiteRtQuantizationPerTensor codes{1, 0};  // codes of an integer tensor are its values
  Owned<LiteRtTensorBuffer, LiteRtDestroyTensorBuffer> buffer;

  explicit Tensor(LiteRtTensor tensor) {
    check(LiteRtGetRankedTensorType(tensor, &type), "read the shape of a tensor");
    int kind = kLiteRtQuantizationNone;
    check(LiteRtGetQuantizationTypeId(tensor, &kind), "read the quantisation of a tensor");
    if (kind == kLiteRtQuantizationPerTensor) {
      check(LiteRtGetPerTensorQuantization(tensor, &codes), "read the quantisation of a tensor");
    }
  }

  std::vector<int64_t> shape() const { return {type.dimensions, type.dimensions + type.rank}; }

  // Calls use(data) with the values in memory: a float*, uint8_t*, int8_t*, int16_t* or int32_t*.
  template <class Use>
  void access(int mode, Use use) {
    void* data = nullptr;
    check(LiteRtLockTensorBuffer(buffer.get(), &data, mode), "reach the memory of a tensor");
    switch (type.element_type) {
      case kLiteRtElementTypeFloat32: use(static_cast<float*>(data)); break;
      case kLiteRtElementTypeUInt8: use(static_cast<uint8_t*>(data)); break;
      case kLiteRtElementTypeInt8: use(static_cast<int8_t*>(data)); break;
      case kLiteRtElementTypeInt16: use(static_cast<int16_t*>(data)); break;
      case kLiteRtElementTypeInt32: use(static_cast<int32_t*>(data)); break;
      default: throw std::runtime_error("The model has an input or output of an unknown type.");
    }
    check(LiteRtUnlockTensorBuffer(buffer.get()), "release the memory of a tensor");
  }
};

class LiteRtNetwork : public Network {
 public:
  LiteRtNetwork(const std::string& path, int threads) {
    // Neither look for a GPU nor report on it.
    const LiteRtEnvOption quiet[] = {
        {kLiteRtEnvOptionTagAutoRegisterAccelerators, {kLiteRtAnyTypeInt, kLiteRtHwAcceleratorCpu}},
        {kLiteRtEnvOptionTagMinLoggerSeverity, {kLiteRtAnyTypeInt, kLiteRtLogSeverityError}}};
    check(LiteRtCreateEnvironment(2, quiet, environment_.out()), "start");
    check(LiteRtCreateModelFromFile(environment_.get(), path.c_str(), model_.out()),
          "read " + path);

    check(LiteRtCreateOptions(options_.out()), "set options");
    check(LiteRtSetOptionsHardwareAccelerators(options_.get(), kLiteRtHwAcceleratorCpu),
          "choose the processor");
    char* text = strdup(("num_threads = " + std::to_string(threads) + "\n").c_str());
    LiteRtOpaqueOptions cpu = nullptr;
    check(LiteRtCreateOpaqueOptions("xnnpack", text, std::free, &cpu), "set the threads");
    check(LiteRtAddOpaqueOptions(options_.get(), cpu), "set the threads");
    check(LiteRtCreateCompiledModel(environment_.get(), model_.get(), options_.get(),
                                    compiled_.out()),
          "prepare " + path);
    make_buffers(path);
  }

  Output run(const std::vector<float>& pixels, int, int) override {
    Tensor& image = inputs_[0];
    const float zero = float(image.codes.zero_point);
    image.access(kLiteRtTensorBufferLockModeWrite, [&](auto* data) {
      using Code = std::remove_pointer_t<decltype(data)>;
      for (const float value : pixels) {
        if constexpr (std::is_same_v<Code, float>) {
          *data++ = value;
        } else {
          using Limits = std::numeric_limits<Code>;
          const float code = std::nearbyint(value / image.codes.scale) + zero;
          *data++ = Code(std::clamp(code, float(Limits::min()), float(Limits::max())));
        }
      }
    });
    std::vector<LiteRtTensorBuffer> given, returned;
    for (const Tensor& tensor : inputs_) given.push_back(tensor.buffer.get());
    for (const Tensor& tensor : outputs_) returned.push_back(tensor.buffer.get());
    check(LiteRtRunCompiledModel(compiled_.get(), 0, given.size(), given.data(), returned.size(),
                                 returned.data()),
          "run the model");
    Tensor& result = outputs_[shown_];
    Output output = describe_output(result.shape());
    const size_t count = size_t(output.height) * output.width * std::max(1, output.channels);
    // Codes of scores are as good as the scores: the largest stays the largest.
    result.access(kLiteRtTensorBufferLockModeRead,
                  [&](auto* data) { output.values.assign(data, data + count); });
    return output;
  }

 private:
  void make_buffers(const std::string& path) {
    LiteRtSignature signature = nullptr;
    check(LiteRtGetModelSignature(model_.get(), 0, &signature), "find the inputs of " + path);
    size_t inputs = 0, outputs = 0;
    check(LiteRtGetNumSignatureInputs(signature, &inputs), "count inputs");
    check(LiteRtGetNumSignatureOutputs(signature, &outputs), "count outputs");
    LiteRtTensor tensor = nullptr;
    LiteRtTensorBufferRequirements needs = nullptr;
    for (size_t i = 0; i < inputs; ++i) {
      check(LiteRtGetSignatureInputTensorByIndex(signature, i, &tensor), "find an input");
      check(LiteRtGetCompiledModelInputBufferRequirements(compiled_.get(), 0, i, &needs),
            "measure an input");
      add(inputs_, tensor, needs);
    }
    std::vector<std::string> names;
    for (size_t i = 0; i < outputs; ++i) {
      check(LiteRtGetSignatureOutputTensorByIndex(signature, i, &tensor), "find an output");
      check(LiteRtGetCompiledModelOutputBufferRequirements(compiled_.get(), 0, i, &needs),
            "measure an output");
      add(outputs_, tensor, needs);
      const char* name = nullptr;
      check(LiteRtGetSignatureOutputName(signature, i, &name), "name an output");
      names.emplace_back(name);
    }
    shown_ = pick_output(names);
    const auto& type = inputs_.at(0).type;
    if (inputs != 1 || type.rank != 4 || type.dimensions[1] < 1 || type.dimensions[2] < 1) {
      throw std::runtime_error(path + " does not take one image (1, H, W, C) of a fixed size.");
    }
    height = type.dimensions[1], width = type.dimensions[2], channels = type.dimensions[3];
  }

  void add(std::vector<Tensor>& tensors, LiteRtTensor tensor,
           LiteRtTensorBufferRequirements needs) {
    Tensor& added = tensors.emplace_back(tensor);
    check(LiteRtCreateManagedTensorBufferFromRequirements(environment_.get(), &added.type, needs,
                                                          added.buffer.out()),
          "reserve memory");
  }

  // Destroyed from the last to the first.
  Owned<LiteRtEnvironment, LiteRtDestroyEnvironment> environment_;
  Owned<LiteRtModel, LiteRtDestroyModel> model_;
  Owned<LiteRtOptions, LiteRtDestroyOptions> options_;
  Owned<LiteRtCompiledModel, LiteRtDestroyCompiledModel> compiled_;
  std::vector<Tensor> inputs_, outputs_;
  size_t shown_ = 0;
};

}  // namespace

int main(int count, char** words) {
  return segment_main(count, words, [](const std::string& path, int threads) {
    return std::make_unique<LiteRtNetwork>(path, threads);
  });
}
