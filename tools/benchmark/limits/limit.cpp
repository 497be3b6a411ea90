// limit-cpp PORT MODELS PRECISION NAME=HINT...
//
// What a C++ server of this API costs at least: libevent reads HTTP, threads parse with RapidJSON and wait for OpenVINO. It
// knows no versions, no metrics, no pictures and hardly any errors, so it stands for more than a real server could reach.

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/thread.h>
#include <rapidjson/document.h>

#include <charconv>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <openvino/openvino.hpp>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

template <class Item>
class Channel {
public:
    void send(Item item) {
        {
            std::scoped_lock hold(mutex);
            items.push_back(std::move(item));
        }
        filled.notify_one();
    }

    Item receive() {
        std::unique_lock hold(mutex);
        filled.wait(hold, [this] { return !items.empty(); });
        Item item = std::move(items.front());
        items.pop_front();
        return item;
    }

    std::deque<Item> all() {
        std::scoped_lock hold(mutex);
        return std::exchange(items, {});
    }

private:
    std::mutex mutex;
    std::condition_variable filled;
    std::deque<Item> items;
};

using Idle = Channel<ov::InferRequest>;

struct Exchange {
    evhttp_request* http;
    Idle* model;
    std::string body;
    std::string answer;
    int status = HTTP_OK;
};

std::map<std::string, Idle> models;
Channel<Exchange*> asked, answered;
event* wake_up;

float* copy_numbers(const rapidjson::Value& from, float* to) {
    if (!from.IsArray()) {
        *to = static_cast<float>(from.GetDouble());
        return to + 1;
    }
    for (const auto& element : from.GetArray()) to = copy_numbers(element, to);
    return to;
}

const float* write_numbers(const ov::Shape& shape, size_t axis, const float* from, std::string& to) {
    if (axis == shape.size()) {
        char digits[32];
        to.append(digits, std::to_chars(digits, digits + sizeof digits, *from).ptr);
        return from + 1;
    }
    for (size_t i = 0; i < shape[axis]; ++i) {
        to += i == 0 ? '[' : ',';
        from = write_numbers(shape, axis + 1, from, to);
    }
    to += ']';
    return from;
}

void predict(Exchange& exchange) {
    // The flags with which TensorFlow Serving and OpenVINO Model Server read requests.
    constexpr unsigned flags = rapidjson::kParseIterativeFlag | rapidjson::kParseNanAndInfFlag;
    rapidjson::Document document;
    document.Parse<flags>(exchange.body.data(), exchange.body.size());
    if (document.HasParseError() || !document.IsObject() || !document.HasMember("instances"))
        throw std::runtime_error("not a request");
    const auto& instances = document["instances"];
    ov::Shape shape;
    for (auto value = &instances; value->IsArray() && !value->Empty(); value = &(*value)[0]) shape.push_back(value->Size());
    ov::Tensor input(ov::element::f32, shape);
    copy_numbers(instances, input.data<float>());

    ov::InferRequest request = exchange.model->receive();
    request.set_input_tensor(input);
    request.infer();
    const ov::Tensor output = request.get_output_tensor();
    exchange.answer.reserve(output.get_size() * 14 + 32);
    exchange.answer = "{\"predictions\":";
    write_numbers(output.get_shape(), 0, output.data<float>(), exchange.answer);
    exchange.answer += '}';
    exchange.model->send(request);
}

void work() {
    for (;;) {
        Exchange* exchange = asked.receive();
        try {
            predict(*exchange);
        } catch (const std::exception& error) {
            exchange->status = HTTP_BADREQUEST;
            exchange->answer = error.what();
        }
        answered.send(exchange);
        event_active(wake_up, EV_READ, 0);
    }
}

void on_answered(evutil_socket_t, short, void*) {
    for (Exchange* exchange : answered.all()) {
        evhttp_add_header(evhttp_request_get_output_headers(exchange->http), "Content-Type", "application/json");
        evbuffer* buffer = evbuffer_new();
        evbuffer_add(buffer, exchange->answer.data(), exchange->answer.size());
        evhttp_send_reply(exchange->http, exchange->status, nullptr, buffer);
        evbuffer_free(buffer);
        delete exchange;
    }
}

void on_request(evhttp_request* http, void*) {
    const std::string path = evhttp_request_get_uri(http);  // /v1/models/NAME:predict
    const auto slash = path.rfind('/'), colon = path.rfind(':');
    const auto found = colon == std::string::npos ? models.end() : models.find(path.substr(slash + 1, colon - slash - 1));
    if (found == models.end()) {
        evhttp_send_error(http, HTTP_NOTFOUND, nullptr);
        return;
    }
    evbuffer* buffer = evhttp_request_get_input_buffer(http);
    auto* exchange = new Exchange{http, &found->second, std::string(evbuffer_get_length(buffer), '\0'), {}};
    evbuffer_copyout(buffer, exchange->body.data(), exchange->body.size());
    asked.send(exchange);
}

}  // namespace

int main(int count, char** words) {
    ov::Core core;
    const std::string folder = words[2], precision = words[3];
    for (int i = 4; i < count; ++i) {
        const std::string word = words[i], name = word.substr(0, word.find('=')), hint = word.substr(word.find('=') + 1);
        auto compiled = core.compile_model(folder + "/" + name + "/1/model.xml", "CPU",
                                           ov::AnyMap{{"PERFORMANCE_HINT", hint}, {"INFERENCE_PRECISION_HINT", precision}});
        Idle& idle = models[name];
        for (auto n = compiled.get_property(ov::optimal_number_of_infer_requests); n > 0; --n)
            idle.send(compiled.create_infer_request());
    }
    evthread_use_pthreads();
    event_base* base = event_base_new();
    wake_up = event_new(base, -1, EV_PERSIST | EV_READ, on_answered, nullptr);
    evhttp* server = evhttp_new(base);
    evhttp_set_max_body_size(server, 1 << 28);
    evhttp_set_gencb(server, on_request, nullptr);
    if (evhttp_bind_socket(server, "127.0.0.1", static_cast<uint16_t>(std::stoi(words[1]))) != 0) return 1;
    // Both servers start four threads a core by default.
    for (unsigned n = 4 * std::thread::hardware_concurrency(); n > 0; --n) std::thread(work).detach();
    event_base_dispatch(base);
}
