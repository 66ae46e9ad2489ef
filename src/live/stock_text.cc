#include "live/stock_text.h"

namespace gimbal::live {

std::span<const std::string_view> stock_sentences() {
  static constexpr std::string_view kSentences[] = {
      "This answer comes from a simulated model, so it says the same few sentences to everyone. ",
      "The times between these words are those that the chosen hardware would need. ",
      "A scheduler decided when your prompt was computed, and which other requests shared its "
      "steps. ",
      "While you read this, the next token waits for its batch.\n\n",
      "A request first waits in a queue, then its prompt is computed, and then it gets one token "
      "a step. ",
      "Long prompts take longer, and many requests at once make every step a little slower. ",
      "If you send the same beginning twice, the second time it is found in the prefix cache. ",
      "Pages of keys and values are shared until somebody writes something new.\n\n",
      "The experts of the model live on several devices, and each token chooses a few of them. ",
      "When all tokens want the same expert, everybody waits for its device. ",
      "Good placement keeps such friends apart, and good dispatch sends new work where it can "
      "start soon. ",
      "Numbers about all of this are on the metrics page of this server.\n\n",
  };
  return kSentences;
}

}  // namespace gimbal::live
