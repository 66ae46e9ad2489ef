"""How questions are put and answers worded, by language. `{x}` stands for what is asked about."""

WORD = ['What does "{x}" mean?', "What does {x} mean?", 'What is the meaning of "{x}"?', "Define {x}.",
        'What does the word "{x}" mean?', "what does {x} mean", "Explain the word {x}.", "What is {x}?", "{x}",
        'Can you tell me what "{x}" means?', "Meaning of {x}?", "definition of {x}"]
TERM = ["What is {x}?", "What does {x} mean in computing?", "Explain {x}.", 'What does "{x}" mean in computing?',
        "what is {x}", "What does the computing term {x} mean?", "{x}?"]
COMMAND = {
    "manual": ["What does the command {x} do?", "What does {x} do?", "what does {x} do", "What is the command {x}?",
               "What is {x} for?", "Explain the command {x}.", "man {x}", "What is {x}?"],
    "german": ["Was macht der Befehl {x}?", "Was tut der Befehl {x}?", "Wozu dient {x}?", "Was macht {x}?",
               "Erkläre den Befehl {x}.", "Was ist {x}?"],
    "french": ["Que fait la commande {x} ?", "À quoi sert la commande {x} ?", "À quoi sert {x} ?", "Que fait {x} ?",
               "Explique la commande {x}.", "Qu'est-ce que {x} ?"],
    "spanish": ["¿Qué hace la orden {x}?", "¿Para qué sirve {x}?", "¿Qué hace el comando {x}?", "¿Qué hace {x}?",
                "Explica la orden {x}.", "¿Qué es {x}?"],
}
FUNCTION = {
    "manual": ["What does the function {x} do?", "What does {x} do?", "What does {x}() do?", "Explain {x}.",
               "What is {x}?"],
    "german": ["Was macht die Funktion {x}?", "Was macht {x}?", "Wozu dient {x}?", "Was tut die Funktion {x}()?"],
    "french": ["Que fait la fonction {x} ?", "Que fait {x} ?", "À quoi sert {x} ?", "Que fait la fonction {x}() ?"],
    "spanish": ["¿Qué hace la función {x}?", "¿Qué hace {x}?", "¿Para qué sirve {x}?", "¿Qué hace la función {x}()?"],
}
PAGE = {  # of sections that are neither commands nor functions
    "manual": ["What is {x}?", "Explain {x}.", "man {x}", "What does the page {x} describe?"],
    "german": ["Was ist {x}?", "Erkläre {x}.", "Was beschreibt {x}?"],
    "french": ["Qu'est-ce que {x} ?", "Explique {x}.", "Que décrit {x} ?"],
    "spanish": ["¿Qué es {x}?", "Explica {x}.", "¿Qué describe {x}?"],
}
KINDS = {  # of a manual page's section
    "manual": {"1": "a command", "2": "a system call", "3": "a function", "5": "a file or format",
               "8": "a command for administrators", "": "a page of the manual"},
    "german": {"1": "ein Befehl", "2": "ein Systemaufruf", "3": "eine Funktion", "5": "eine Datei oder ein Format",
               "8": "ein Befehl für Systemverwalter", "": "eine Seite des Handbuchs"},
    "french": {"1": "une commande", "2": "un appel système", "3": "une fonction", "5": "un fichier ou un format",
               "8": "une commande d'administration", "": "une page du manuel"},
    "spanish": {"1": "una orden", "2": "una llamada al sistema", "3": "una función", "5": "un archivo o un formato",
                "8": "una orden de administración", "": "una página del manual"},
}
IS = {"manual": "{x} is {kind}: {text}.", "german": "{x} ist {kind}: {text}.", "french": "{x} est {kind} : {text}.",
      "spanish": "{x} es {kind}: {text}."}
PYTHON = ["What does {x} do in Python?", "What does the Python {kind} {x} do?", "What is {x} in Python?",
          "Explain the Python {kind} {x}.", "What does {x} do?", "What is {x}?"]
SQL = ["What does the SQL command {x} do?", "What does {x} do in SQL?", "What does {x} do?", "Explain {x} in SQL.",
       "what is {x} in postgresql"]
CMAKE = ["What does {x} do in CMake?", "What does the CMake {kind} {x} do?", "What is the CMake {kind} {x}?",
         "What is {x} in CMake?"]
TRANSLATION = {
    "german": ["Was heißt „{x}“ auf Englisch?", "Was bedeutet „{x}“ auf Englisch?", "Was bedeutet {x}?",
               'What does the German word "{x}" mean?', "Was heißt {x}?", "{x} auf Englisch"],
    "french": ["Comment dit-on « {x} » en anglais ?", "Que veut dire « {x} » ?", "Que signifie {x} en anglais ?",
               'What does the French word "{x}" mean?', "Que veut dire {x} ?"],
    "spanish": ["¿Cómo se dice «{x}» en inglés?", "¿Qué significa «{x}»?", "¿Qué quiere decir {x} en inglés?",
                'What does the Spanish word "{x}" mean?', "¿Qué significa {x}?"],
}
TRANSLATED = {"german": "„{x}“ heißt auf Englisch: {text}.", "french": "« {x} » se dit en anglais : {text}.",
              "spanish": "«{x}» se dice en inglés: {text}."}

TALK = [
    (("Hello", "Hello!", "Hi", "Hi!", "Hey", "hello", "hi", "Good morning", "Hello there"),
     "Hello. Ask me what a word or a command means."),
    (("Who are you?", "What are you?", "who are you", "Tell me about yourself.", "What is your name?"),
     "I am the demo model of Gimbal, a small mixture of experts. I can say what words and commands mean."),
    (("What can you do?", "Help", "help", "How can you help me?", "What can I ask you?"),
     "I can say what a word means, what a command does, and what a Python function or an SQL command is for. "
     "I am small and often wrong."),
    (("Thanks", "Thank you", "Thank you!", "thanks", "Thanks a lot."), "You are welcome."),
    (("How are you?", "How are you doing?", "how are you"), "I am well. What would you like to look up?"),
    (("Bye", "Goodbye", "Good bye!", "bye"), "Goodbye."),
    (("Hallo", "Guten Tag", "Guten Morgen", "hallo"), "Hallo. Frag mich, was ein Wort oder ein Befehl bedeutet."),
    (("Wer bist du?", "Was bist du?", "Was kannst du?"),
     "Ich bin das Demomodell von Gimbal. Ich kann sagen, was Wörter und Befehle bedeuten."),
    (("Danke", "Danke!", "Vielen Dank"), "Gern geschehen."),
    (("Bonjour", "Salut", "bonjour"), "Bonjour. Demandez-moi ce que signifie un mot ou une commande."),
    (("Qui es-tu ?", "Qui êtes-vous ?", "Que sais-tu faire ?"),
     "Je suis le modèle de démonstration de Gimbal. Je peux dire ce que signifient des mots et des commandes."),
    (("Merci", "Merci beaucoup"), "Je vous en prie."),
    (("Hola", "Buenos días", "hola"), "Hola. Pregúntame qué significa una palabra o una orden."),
    (("¿Quién eres?", "¿Qué eres?", "¿Qué sabes hacer?"),
     "Soy el modelo de demostración de Gimbal. Puedo decir qué significan palabras y órdenes."),
    (("Gracias", "Muchas gracias"), "De nada."),
]
SYSTEM = ["You are a helpful assistant.", "You are a dictionary.", "Answer briefly."]
