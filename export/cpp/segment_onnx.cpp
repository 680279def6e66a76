// Segments a picture with an .onnx file of keras_seg, in onnxruntime.
//
//     segment_onnx files/onnx/model.onnx photo.ppm mask.ppm --threads 4
#include <onnxruntime_cxx_api.h>

#include "segment.h"

namespace {

class OnnxNetwork : public Network {
 public:
  OnnxNetwork(const std::string& path, int threads) : session_(open(path, threads)) {
    if (session_.GetInputCount() != 1) throw std::runtime_error(path + " takes several inputs.");
    input_ = session_.GetInputNameAllocated(0, allocator_).get();
    std::vector<std::string> names;
    for (size_t i = 0; i < session_.GetOutputCount(); ++i) {
      names.emplace_back(session_.GetOutputNameAllocated(i, allocator_).get());
    }
    output_ = names[pick_output(names)];
    // The tensor's description belongs to the type's.
    const Ort::TypeInfo type = session_.GetInputTypeInfo(0);
    const std::vector<int64_t> shape = type.GetTensorTypeAndShapeInfo().GetShape();
    const auto element = type.GetTensorTypeAndShapeInfo().GetElementType();
    if (shape.size() != 4 || shape[3] < 1 || element != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
      throw std::runtime_error(path + " takes no float images (1, H, W, C).");
    }
    height = int(std::max<int64_t>(shape[1], 0));  // -1: open
    width = int(std::max<int64_t>(shape[2], 0));
    channels = int(shape[3]);
  }

  Output run(const std::vector<float>& pixels, int rows, int columns) override {
    const int64_t shape[] = {1, rows, columns, channels};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const Ort::Value image = Ort::Value::CreateTensor<float>(
        memory, const_cast<float*>(pixels.data()), pixels.size(), shape, 4);
    const char* inputs[] = {input_.c_str()};
    const char* outputs[] = {output_.c_str()};
    const auto results = session_.Run(Ort::RunOptions{nullptr}, inputs, &image, 1, outputs, 1);
    const auto type = results[0].GetTensorTypeAndShapeInfo();
    Output output = describe_output(type.GetShape());
    const size_t count = type.GetElementCount();
    switch (type.GetElementType()) {
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
        copy(results[0].GetTensorData<float>(), count, output);
        break;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
        copy(results[0].GetTensorData<int32_t>(), count, output);
        break;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
        copy(results[0].GetTensorData<int64_t>(), count, output);
        break;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
        copy(results[0].GetTensorData<uint8_t>(), count, output);
        break;
      default:
        throw std::runtime_error("The output '" + output_ + "' is neither float nor integer.");
    }
    return output;
  }

 private:
  Ort::Session open(const std::string& path, int threads) {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);
    return Ort::Session(environment_, path.c_str(), options);  // on Windows: a std::wstring
  }

  template <class T>
  static void copy(const T* data, size_t count, Output& output) {
    output.values.assign(data, data + count);
  }

  Ort::Env environment_{ORT_LOGGING_LEVEL_ERROR, "segment"};
  Ort::AllocatorWithDefaultOptions allocator_;
  Ort::Session session_;
  std::string input_, output_;
};

}  // namespace

int main(int count, char** words) {
  return segment_main(count, words, [](const std::string& path, int threads) {
    return std::make_unique<OnnxNetwork>(path, threads);
  });
}
